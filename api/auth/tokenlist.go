package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/rules"
)

// tokenList is the content of a token file.
type tokenList struct {
	tokens []listedToken
	// certificates are the callers with a certificate, by its common name. It is nil
	// if the file does not have the key.
	certificates map[string]allowed
}

// allowed has the scopes and rules of a caller.
type allowed struct {
	scopes []Scope
	rules  puller.Rules
}

type listedToken struct {
	allowed
	name    string
	hash    [sha256.Size]byte
	expires time.Time // zero for never
}

// tokenEntry is the entry of a token. Its fields are nodes, which have line numbers.
type tokenEntry struct {
	Name    yaml.Node   `yaml:"name"`
	SHA256  yaml.Node   `yaml:"sha256"`
	Scopes  []yaml.Node `yaml:"scopes"`
	Expires yaml.Node   `yaml:"expires"`
	Rules   yaml.Node   `yaml:"rules"`
}

// Bounds of a token file.
const (
	maxTokenFile = 1 << 20 // bytes
	maxTokens    = 10_000
)

// errEmptyFile is for a file without content. A writer may be about to fill it, so it does
// not count as an empty list.
var errEmptyFile = errors.New("it is empty; write \"tokens: []\" to list nobody")

// callerName is the form of a token's name. Logs and terminals show it.
var callerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// parseTokens parses a token file. The error is one line, and names the line of the file
// and the field.
func parseTokens(content []byte) (*tokenList, error) {
	var written struct {
		Tokens       []yaml.Node `yaml:"tokens"`
		Certificates yaml.Node   `yaml:"certificates"`
	}
	var document yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(content))
	if err := d.Decode(&document); errors.Is(err, io.EOF) || err == nil && isNull(document.Content[0]) {
		return nil, errEmptyFile
	} else if err != nil {
		return nil, yamlFault(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document; write one")
	}
	if err := document.Load(&written, yaml.WithKnownFields()); err != nil {
		return nil, yamlFault(err)
	}
	if len(written.Tokens) > maxTokens {
		return nil, fmt.Errorf("tokens: %d of them; at most %d are taken", len(written.Tokens), maxTokens)
	}
	list := &tokenList{}
	for _, node := range written.Tokens {
		token, err := parseToken(&node)
		if err != nil {
			return nil, err
		}
		for _, other := range list.tokens {
			if other.name == token.name {
				return nil, fmt.Errorf("line %d: name: %q is listed twice", node.Line, token.name)
			}
			if other.hash == token.hash {
				return nil, fmt.Errorf("line %d: sha256: %s and %s are the same token", node.Line, other.name, token.name)
			}
		}
		list.tokens = append(list.tokens, token)
	}
	if written.Certificates.Kind != 0 { // with the key, other certificates have no scopes
		var err error
		if list.certificates, err = parseCertificates(&written.Certificates); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parseCertificates parses the callers with a certificate. The list may be empty.
func parseCertificates(node *yaml.Node) (map[string]allowed, error) {
	var written []struct {
		Name   yaml.Node   `yaml:"name"`
		Scopes []yaml.Node `yaml:"scopes"`
		Rules  yaml.Node   `yaml:"rules"`
	}
	if err := node.Load(&written, yaml.WithKnownFields()); err != nil {
		return nil, yamlFault(err)
	}
	list := make(map[string]allowed)
	for _, c := range written {
		name := c.Name.Value
		if c.Name.Kind != yaml.ScalarNode || name == "" {
			return nil, errors.New("certificates: one has no name; write the common name of its subject")
		}
		if _, ok := list[name]; ok {
			return nil, fmt.Errorf("line %d: name: %q is listed twice", c.Name.Line, name)
		}
		scopes, err := parseScopes(c.Name.Line, c.Scopes)
		if err != nil {
			return nil, err
		}
		own, err := parseRules("cert:"+name, &c.Rules)
		if err != nil {
			return nil, err
		}
		list[name] = allowed{scopes, own}
	}
	return list, nil
}

func parseToken(node *yaml.Node) (t listedToken, err error) {
	var e tokenEntry
	if err := node.Load(&e, yaml.WithKnownFields()); err != nil {
		return t, yamlFault(err)
	}
	t.name = e.Name.Value
	if !callerName.MatchString(t.name) {
		return t, fmt.Errorf("line %d: name: %q is not valid; write up to 64 letters, digits, dots, dashes or underscores", line(node, &e.Name), t.name)
	}
	hash, err := hex.DecodeString(e.SHA256.Value)
	if err != nil || len(hash) != sha256.Size {
		return t, fmt.Errorf("line %d: sha256: that of %s is not the 64 hexadecimal digits that \"towline token new\" prints", line(node, &e.SHA256), t.name)
	}
	if t.hash = [sha256.Size]byte(hash); t.hash == sha256.Sum256(nil) {
		return t, fmt.Errorf("line %d: sha256: that of %s is the hash of nothing; hash the token", line(node, &e.SHA256), t.name)
	}
	if t.scopes, err = parseScopes(node.Line, e.Scopes); err != nil {
		return t, err
	}
	if t.rules, err = parseRules("token:"+t.name, &e.Rules); err != nil {
		return t, err
	}
	if e.Expires.Kind != 0 {
		if t.expires, err = time.Parse(time.RFC3339, e.Expires.Value); err != nil {
			return t, fmt.Errorf("line %d: expires: %q is not a time such as 2030-01-31T00:00:00Z", e.Expires.Line, e.Expires.Value)
		}
	}
	return t, nil
}

// line returns the line of a field, or of its entry if the field is missing.
func line(entry, field *yaml.Node) int {
	if field.Line > 0 {
		return field.Line
	}
	return entry.Line
}

func parseScopes(at int, nodes []yaml.Node) (scopes []Scope, err error) {
	if len(nodes) == 0 {
		return nil, fmt.Errorf("line %d: scopes: empty; name some of %s", at, Caller{Scopes: allScopes()}.list())
	}
	for _, n := range nodes {
		s := Scope(n.Value)
		if !slices.Contains(allScopes(), s) {
			return nil, fmt.Errorf("line %d: scopes: there is no %q; there are %s", n.Line, n.Value, Caller{Scopes: allScopes()}.list())
		}
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes, nil
}

// empty returns the name of a list of rules that is present but empty, "" for none.
func empty(w rules.Written) string {
	for _, list := range []struct {
		name    string
		entries []string
	}{{"allow", w.Allow}, {"policies", w.Policies}, {"platforms", w.Platforms}} {
		if list.entries != nil && len(list.entries) == 0 {
			return list.name
		}
	}
	return ""
}

// parseRules parses the rules of one caller.
func parseRules(caller string, node *yaml.Node) (puller.Rules, error) {
	if node.Kind == 0 {
		return nil, nil
	}
	var written struct {
		Pull rules.Written `yaml:"pull"`
		Run  rules.Written `yaml:"run"`
	}
	if err := node.Load(&written, yaml.WithKnownFields()); err != nil {
		return nil, yamlFault(err)
	}
	if key := emptyKey(node); key != nil || isNull(node) {
		at, name := node.Line, "rules"
		if key != nil {
			at, name = key.Line, key.Value
		}
		return nil, fmt.Errorf("line %d: %s: it has no value; write one, or remove the key", at, name)
	}
	for _, w := range []rules.Written{written.Pull, written.Run} {
		if name := empty(w); name != "" {
			return nil, fmt.Errorf("line %d: %s's rules: %s: the list is empty, but without a list everything is allowed; write what is allowed, or remove the key", node.Line, caller, name)
		}
	}
	parsed, err := rules.Parse(caller+"'s rules", written.Pull, written.Run)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", node.Line, err)
	}
	return parsed, nil
}

// emptyKey returns a key without a value, or with an entry without a value, or nil. All
// entries of a list may be commented out.
func emptyKey(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		value := node.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if isNull(value) || value.Kind == yaml.SequenceNode && slices.ContainsFunc(value.Content, isNull) {
			return node.Content[i]
		}
		if key := emptyKey(value); key != nil {
			return key
		}
	}
	return nil
}

// isNull reports whether a node is null or empty.
func isNull(node *yaml.Node) bool {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

var fieldNotFound = regexp.MustCompile(`field (\S+) not found in type \S+`)

// yamlFault returns the error of a decoder in one line and without Go's types.
func yamlFault(err error) error {
	message := err.Error()
	var typed *yaml.LoadErrors
	if errors.As(err, &typed) && len(typed.Errors) > 0 {
		message = fmt.Sprintf("line %d: %s", typed.Errors[0].Line, typed.Errors[0].Err)
	}
	message = fieldNotFound.ReplaceAllString(message, "there is no field $1 here")
	return errors.New(strings.Join(strings.Fields(message), " "))
}

// find returns the token with a hash, or nil. It compares all tokens in constant time, so
// that the time does not depend on the hash.
func (l *tokenList) find(hash [sha256.Size]byte) (found *listedToken) {
	for i := range l.tokens {
		if subtle.ConstantTimeCompare(l.tokens[i].hash[:], hash[:]) == 1 {
			found = &l.tokens[i]
		}
	}
	return found
}
