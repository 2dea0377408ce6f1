package compose

import (
	"bytes"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/puller"
)

// Limits of what the daemon takes from anyone. Each is many times what the
// largest files in use come to, and keeps a parse below a second.
const (
	maxFile  = 1 << 20 // bytes
	maxMarks = 100_000 // lines, and signs that begin a value or end one
	maxDepth = 64      // of values in values
	maxTrees = 16      // documents
	// maxCost bounds the file with its aliases followed and its services
	// extended: one for each value, and one for each 32 bytes of text.
	maxCost = 150_000
)

func invalid(format string, args ...any) error {
	return puller.Errorf(puller.ErrInvalidRequest, format, args...)
}

// file is a Compose file as YAML has it: one tree for each document in it.
type file struct {
	name   string // in errors
	trees  []*yaml.Node
	faults Faults // that can be told with others
}

// read parses the file and refuses what would take too long to go on with. The
// error is ErrInvalidRequest and names the line.
func read(content []byte) (*file, error) {
	if err := checkBytes(content); err != nil {
		return nil, err
	}
	f := &file{name: "body"}
	s := survey{open: map[*yaml.Node]bool{}}
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var tree yaml.Node
		err := d.Decode(&tree)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, notYAML(err)
		}
		if err := s.walk(&tree, 0); err != nil {
			return nil, err
		}
		if len(f.trees) == maxTrees {
			return nil, invalid("body: line %d: more than %d documents", tree.Line, maxTrees)
		}
		f.trees = append(f.trees, &tree)
	}
	if len(f.trees) == 0 {
		return nil, invalid("body: empty; send a Compose file")
	}
	return f, nil
}

// checkBytes refuses what no parser needs to see. The YAML parser's time grows
// with the square of the values on a line and of %TAG directives.
func checkBytes(content []byte) error {
	if len(content) > maxFile {
		return invalid("body: larger than 1 MiB")
	}
	marks, line := 0, 1
	for i := 0; i < len(content); {
		c, size := utf8.DecodeRune(content[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			return invalid("body: line %d: not UTF-8", line)
		case c < ' ' && c != '\n' && c != '\r' && c != '\t', c == 0x7f:
			return invalid("body: line %d: the control character %U; a Compose file is text", line, c)
		case c == '%' && (i == 0 || content[i-1] == '\n') && bytes.HasPrefix(content[i:], []byte("%TAG")):
			return invalid("body: line %d: the directive %%TAG, which no Compose file needs", line)
		case c == '\n':
			line++
			marks++
		case c < utf8.RuneSelf && strings.ContainsRune("[{,&*!?", c):
			marks++
		}
		if marks > maxMarks {
			return invalid("body: line %d: more lines, lists and mappings up to here than the %d that are taken", line, maxMarks)
		}
		i += size
	}
	return nil
}

var (
	lineIn = regexp.MustCompile(`line (\d+)(?:, column \d+)?:? *`)
	noLine = regexp.MustCompile(`at <unknown position>: *`)
)

// notYAML says what the parser says, behind the line it is at. Its errors have
// no exported type.
func notYAML(err error) error {
	var typed *yaml.LoadErrors
	if errors.As(err, &typed) && len(typed.Errors) > 0 {
		return invalid("body: line %d: %s", typed.Errors[0].Line, clip(typed.Errors[0].Err.Error()))
	}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := "1" // what it has no position for is at the very beginning
	for _, m := range lineIn.FindAllStringSubmatch(message, -1) {
		line = m[1]
	}
	message = strings.ReplaceAll(lineIn.ReplaceAllString(message, ""), " at ", ": ")
	return invalid("body: line %s: not YAML: %s", line, clip(noLine.ReplaceAllString(message, "")))
}

// survey walks a tree as a decoder would, aliases followed.
type survey struct {
	open map[*yaml.Node]bool // the anchors that are being walked
	cost int
}

func (s *survey) walk(n *yaml.Node, depth int) error {
	if s.cost += 1 + len(n.Value)/32; s.cost > maxCost {
		return invalid("body: line %d: the file is too large with its aliases followed", n.Line)
	}
	if depth > maxDepth {
		return invalid("body: line %d: nested more than %d deep", n.Line, maxDepth)
	}
	switch {
	case n.Tag == "!reset" || n.Tag == "!override":
		return invalid("body: line %d: %s is for a file that is merged into another; send the outcome, as docker compose config writes it", n.Line, n.Tag)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float":
		var v float64
		if n.Decode(&v) == nil && (math.IsInf(v, 0) || math.IsNaN(v)) {
			return invalid("body: line %d: %s is no number for a Compose file", n.Line, clip(n.Value))
		}
	case n.Kind == yaml.AliasNode:
		if s.open[n.Alias] {
			return invalid("body: line %d: the alias *%s is part of what it stands for", n.Line, clip(n.Value))
		}
		return s.walk(n.Alias, depth)
	}
	if n.Anchor != "" {
		s.open[n] = true
		defer delete(s.open, n)
	}
	for _, child := range n.Content {
		if err := s.walk(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// models returns the documents as compose-go takes them.
func (f *file) models() ([]map[string]any, error) {
	var all []map[string]any
	for _, tree := range f.trees {
		v, err := value(tree.Content[0])
		if err != nil {
			return nil, err
		}
		switch m := v.(type) {
		case map[string]any:
			all = append(all, m)
		case nil: // --- with nothing after it
		default:
			return nil, invalid("body: line %d: a Compose file is a mapping that has services", tree.Line)
		}
	}
	if len(all) == 0 {
		return nil, invalid("body: empty; send a Compose file")
	}
	return all, nil
}

// value decodes a tree that survey has found to be bounded. The YAML library's
// own decoder takes a time that grows with the square of a mapping's keys.
func value(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		return value(n.Alias)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, child := range n.Content {
			var err error
			if list[i], err = value(child); err != nil {
				return nil, err
			}
		}
		return list, nil
	case yaml.MappingNode:
		return mapping(n)
	}
	if n.ShortTag() == "!!str" {
		return n.Value, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, notYAML(err)
	}
	return v, nil
}

func mapping(n *yaml.Node) (map[string]any, error) {
	m := make(map[string]any, len(n.Content)/2)
	lines := make(map[string]int, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, content := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if line := lines[key.Value]; line > 0 {
			return nil, invalid("body: line %d: the key %q is on line %d already", n.Content[i].Line, clip(key.Value), line)
		}
		lines[key.Value] = n.Content[i].Line
		switch key.ShortTag() {
		case "!!merge":
			merged = append(merged, content)
			continue
		case "!!str":
		default:
			return nil, invalid("body: line %d: the key %s is no string; put it in quotes", n.Content[i].Line, clip(key.Value))
		}
		var err error
		if m[key.Value], err = value(content); err != nil {
			return nil, err
		}
	}
	for _, source := range merged {
		if err := merge(m, source); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// merge adds what << says and the mapping does not. Of several sources, the
// first that has a key counts.
func merge(m map[string]any, source *yaml.Node) error {
	v, err := value(source)
	if err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, one := range list {
		from, ok := one.(map[string]any)
		if !ok {
			return invalid("body: line %d: << takes a mapping, or a list of them", source.Line)
		}
		for key, v := range from {
			if _, ok := m[key]; !ok {
				m[key] = v
			}
		}
	}
	return nil
}

const maxQuote = 200 // bytes

// clip shortens a text that is quoted in an error.
func clip(s string) string {
	if len(s) > maxQuote {
		return strings.ToValidUTF8(s[:maxQuote], "") + "…"
	}
	return s
}
