package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// narrowing are the keys that restrict callers, and what is removed. Such a key without a
// value would allow what it should forbid, for example if all entries of a list are commented
// out. So it stops the start. An empty environment variable does, too.
var narrowing = []string{
	"auth.token_file", "auth.tls", "auth.verify_image_access", "runs.enabled", "registries.docker_config", "rules", "keep.protect",
}

func narrows(key string) bool {
	return slices.ContainsFunc(narrowing, func(n string) bool { return key == n || strings.HasPrefix(key, n+".") })
}

// allows reports whether a key lists what is allowed, and allows everything if it is
// left out. An empty list is refused: it reads as "nothing", but would allow everything.
func allows(key string) bool {
	name := key[strings.LastIndexByte(key, '.')+1:]
	return strings.HasPrefix(key, "rules.") && (name == "allow" || name == "policies" || name == "platforms")
}

// checkWritten refuses what decoding would ignore or convert: a second document,
// a key that is set twice, and a value that has not the form of its key.
func checkWritten(content []byte, defaults map[string]any) error {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := d.Decode(&document); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("more than one YAML document; write one")
	}
	root := resolve(document.Content[0])
	switch {
	case isNull(root):
		return nil
	case root.Kind != yaml.MappingNode:
		return errors.New("no mapping of keys to values")
	}
	var unknown error
	if err := checkMapping(root, "", defaults, make(map[string]bool), &unknown); err != nil {
		return err
	}
	return unknown
}

// checkMapping checks the keys under a prefix. Keys that differ only in case are the
// same key. A dot in a key separates a section from its key. unknown gets the error of
// the first key that is not known.
func checkMapping(node *yaml.Node, prefix string, defaults map[string]any, seen map[string]bool, unknown *error) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], resolve(node.Content[i+1])
		key := prefix + strings.ToLower(name.Value)
		want, leaf := defaults[key]
		if seen[key] {
			return fmt.Errorf("line %d: %s: the key is set twice", name.Line, key)
		}
		var err error
		switch {
		case name.Value == "<<": // a key that is written here overrides a merged one
			for _, n := range merged(value) {
				if err = checkMapping(n, prefix, defaults, make(map[string]bool), unknown); err != nil {
					break
				}
			}
		case !leaf && !isSection(key, defaults) && key != "registries.credentials":
			if *unknown == nil {
				*unknown = fmt.Errorf("line %d: there is no key %s%s", name.Line, key, similar(key, defaults))
			}
			seen[key] = true
		case isNull(value):
			if narrows(key) {
				err = fmt.Errorf("line %d: %s: %s", name.Line, key, nothingThere)
			}
			seen[key] = true
		case leaf:
			fault := checkForm(value, want)
			if fault == "" && allows(key) && value.Kind == yaml.SequenceNode && len(value.Content) == 0 {
				fault = "the list is empty, but without a list everything is allowed; write what is allowed, or remove the key"
			}
			if fault != "" {
				err = fmt.Errorf("line %d: %s: %s", value.Line, key, fault)
			}
			seen[key] = true
		case isSection(key, defaults) && value.Kind == yaml.MappingNode:
			if err = checkMapping(value, key+".", defaults, seen, unknown); !strings.Contains(name.Value, ".") {
				seen[key] = true
			}
		case isSection(key, defaults):
			err = fmt.Errorf("line %d: %s: it is a section; write its keys under it", value.Line, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// similar suggests a key for one that is not known.
func similar(key string, defaults map[string]any) string {
	best, least := "", 3 // edits
	for _, k := range slices.Sorted(maps.Keys(defaults)) {
		if n := edits(key, k); n < least {
			best, least = k, n
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// edits returns how many characters must be added, removed or replaced to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := before
			if a[i] != b[j] {
				replaced++
			}
			before = row[j+1]
			row[j+1] = min(replaced, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func isSection(key string, defaults map[string]any) bool {
	for k := range defaults {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

const nothingThere = "it has no value; write one, or remove the key"

// checkForm returns what is wrong with the form of a value, "" if nothing is. want
// is the default of the key. Other faults are found by decoding.
func checkForm(value *yaml.Node, want any) string {
	switch want.(type) {
	case []string:
		if value.Kind != yaml.SequenceNode && (value.Kind != yaml.ScalarNode || value.Value == "") {
			return "it is not a list; write one such as [a, b], or [] for an empty one"
		}
		if slices.ContainsFunc(value.Content, func(n *yaml.Node) bool { return isNull(resolve(n)) }) {
			return "one of its entries is empty; write a value, or remove the entry"
		}
	case map[string]string:
		if value.Kind != yaml.MappingNode && (value.Kind != yaml.ScalarNode || value.Value == "") {
			return "it is not a mapping; write one such as {role: ci}, or {} for an empty one"
		}
		for i := 0; i+1 < len(value.Content); i += 2 {
			name, text := value.Content[i], resolve(value.Content[i+1])
			switch {
			case name.Value != strings.ToLower(name.Value) || strings.Contains(name.Value, "."):
				return fmt.Sprintf("the name %.40q has upper-case letters or dots", name.Value)
			case text.Kind != yaml.ScalarNode || text.Tag != "!!str":
				return fmt.Sprintf("the value of %.40q is not a text; write one, in quotes if it is a number", name.Value)
			}
		}
	case bool:
		if value.Kind != yaml.ScalarNode {
			return "it is neither true nor false"
		}
		if value.Value != "true" && value.Value != "false" && value.Tag != "!!bool" {
			return fmt.Sprintf("%q is neither true nor false", value.Value)
		}
	}
	return ""
}

func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// merged returns the mappings that a merge key names.
func merged(value *yaml.Node) (all []*yaml.Node) {
	nodes := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		nodes = value.Content
	}
	for _, n := range nodes {
		if n = resolve(n); n.Kind == yaml.MappingNode {
			all = append(all, n)
		}
	}
	return all
}
