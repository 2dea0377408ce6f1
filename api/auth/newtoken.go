package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// NewToken is a token that no token file lists yet.
type NewToken struct {
	Token string // what the caller sends; Towline does not store it
	entry string // the entry for a token file, in YAML
}

// MakeToken makes a token of 256 random bits. expires is zero for never. The error names
// the invalid argument.
func MakeToken(name string, scopes []Scope, expires time.Time) (NewToken, error) {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	token := "towline_" + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(token))
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	entry := fmt.Sprintf("  - name: %q\n    sha256: %s\n    scopes: [%s]\n", name, hex.EncodeToString(sum[:]), strings.Join(words, ", "))
	if callerName.MatchString(name) {
		entry = strings.Replace(entry, `"`+name+`"`, name, 1)
	}
	if !expires.IsZero() {
		entry += "    expires: " + expires.UTC().Format(time.RFC3339) + "\n"
	}
	if _, err := parseTokens([]byte("tokens:\n" + entry)); err != nil {
		_, fault, _ := strings.Cut(err.Error(), ": ")
		return NewToken{}, errors.New(fault)
	}
	return NewToken{Token: token, entry: entry}, nil
}

// File returns the content of a token file with only this token.
func (n NewToken) File() string { return "tokens:\n" + n.entry }

// AddTo adds the token to a token file, or creates the file. It replaces the file as a
// whole, and keeps comments and rights. The error names the file.
func (n NewToken) AddTo(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // replace the file, not the link
	}
	// The name is a lock too.
	next, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there: another \"towline token new\" is at work; if none is, remove it", path+".new")
	}
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	defer next.Close()
	content := []byte(n.File())
	before, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	default:
		if content, err = n.addTo(before); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := keepRights(next, path); err != nil {
			return err
		}
	}
	if _, err := next.Write(content); err != nil {
		return err
	}
	if err := next.Sync(); err != nil {
		return err
	}
	return os.Rename(next.Name(), path)
}

func (n NewToken) addTo(content []byte) ([]byte, error) {
	if _, err := parseTokens(content); err != nil && !errors.Is(err, errEmptyFile) {
		return nil, err
	}
	var tree, entry yaml.Node
	if err := yaml.Unmarshal([]byte(n.entry), &entry); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(content, &tree); err != nil {
		return nil, yamlFault(err)
	}
	added := false
	if len(tree.Content) > 0 && tree.Content[0].Kind == yaml.MappingNode {
		pairs := tree.Content[0].Content
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i].Value != "tokens" {
				continue
			}
			added = true
			if list := pairs[i+1]; list.Kind == yaml.SequenceNode {
				list.Style &^= yaml.FlowStyle
				list.Content = append(list.Content, entry.Content[0].Content...)
			} else { // nothing
				pairs[i+1] = entry.Content[0]
			}
		}
	}
	if !added { // the file lists nothing, so only comments are lost
		content = append(append(content, '\n'), n.File()...)
	} else {
		var b strings.Builder
		e := yaml.NewEncoder(&b)
		e.SetIndent(2)
		if err := e.Encode(&tree); err != nil {
			return nil, err
		}
		content = []byte(b.String())
	}
	if _, err := parseTokens(content); err != nil {
		return nil, fmt.Errorf("with the new token in it: %w", err)
	}
	return content, nil
}
