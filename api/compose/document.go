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

// Limits of a file that the daemon accepts. Each is many times more than the largest
// files in use need. Together they keep a parse below a second: the time of the YAML
// library grows with the square of a mapping's keys.
const (
	maxFile  = 256 << 10 // bytes
	maxMarks = 50_000    // lines, and characters that can begin a list, mapping, alias or tag
	maxDepth = 64        // of values in values
	maxTrees = 16        // documents
	// maxCost bounds the file with its aliases followed: 1 for each value, and 1 for
	// each 32 bytes of text.
	maxCost = 150_000
)

func invalid(format string, args ...any) error {
	return puller.Errorf(puller.ErrInvalidRequest, format, args...)
}

// file is a parsed YAML file, with one tree for each document.
type file struct {
	name   string // in errors
	trees  []*yaml.Node
	faults Faults // that are returned together
}

// read parses a file, and refuses one that would take too long to process. The error
// is ErrInvalidRequest and names the line.
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

// checkBytes refuses content before the YAML library sees it. The time of the library
// grows with the square of the values on a line and of %TAG directives.
func checkBytes(content []byte) error {
	if len(content) > maxFile {
		return invalid("body: larger than 256 KiB")
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
			return invalid("body: line %d: more than %d lines, lists and mappings up to here", line, maxMarks)
		}
		i += size
	}
	return nil
}

var (
	lineIn = regexp.MustCompile(`line (\d+)(?:, column \d+)?:? *`)
	noLine = regexp.MustCompile(`at <unknown position>: *`)
)

// notYAML returns an error of the YAML library, after its line. Most of the errors have
// no exported type, so the line is read from the text.
func notYAML(err error) error {
	var typed *yaml.LoadErrors
	if errors.As(err, &typed) && len(typed.Errors) > 0 {
		return invalid("body: line %d: %s", typed.Errors[0].Line, clip(typed.Errors[0].Err.Error()))
	}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := "1" // an error without a position is at the beginning
	for _, m := range lineIn.FindAllStringSubmatch(message, -1) {
		line = m[1]
	}
	message = strings.ReplaceAll(lineIn.ReplaceAllString(message, ""), " at ", ": ")
	return invalid("body: line %s: not YAML: %s", line, clip(noLine.ReplaceAllString(message, "")))
}

// survey walks a tree as a decoder does: it follows aliases.
type survey struct {
	open map[*yaml.Node]bool // the anchors around the current node
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
		return invalid("body: line %d: %s is for a file that is merged into another; send the output of docker compose config", n.Line, n.Tag)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float":
		var v float64
		if n.Decode(&v) == nil && (math.IsInf(v, 0) || math.IsNaN(v)) {
			return invalid("body: line %d: %s is not a number for a Compose file", n.Line, clip(n.Value))
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
		var v any
		if err := tree.Decode(&v); err != nil {
			return nil, notYAML(err)
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

const maxQuote = 200 // bytes

// clip shortens a text that an error quotes.
func clip(s string) string {
	if len(s) > maxQuote {
		return strings.ToValidUTF8(s[:maxQuote], "") + "…"
	}
	return s
}
