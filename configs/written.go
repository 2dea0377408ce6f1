package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// narrowing are the keys that take something from callers. Such a key that has
// nothing after it, as where all entries of a list were commented out, would
// open what it was to close: it stops the start, as does an empty variable.
var narrowing = []string{
	"auth.token_file", "auth.tls", "auth.verify_image_access", "runs.enabled", "registries.docker_config", "rules",
}

func narrows(key string) bool {
	return slices.ContainsFunc(narrowing, func(n string) bool { return key == n || strings.HasPrefix(key, n+".") })
}

// allows reports whether a key lists what is allowed, and allows everything where it
// is left out. An empty list there is refused: it says the one and would do the other.
func allows(key string) bool {
	name := key[strings.LastIndexByte(key, '.')+1:]
	return strings.HasPrefix(key, "rules.") && (name == "allow" || name == "policies" || name == "platforms")
}

// checkWritten refuses what decoding would pass over or bend: a second document,
// a key that is there twice, and values of another form than their key's.
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
	return checkMapping(root, "", defaults, make(map[string]bool))
}

// checkMapping looks at the keys under a prefix. Case does not tell keys apart,
// and a dot in a key stands for a section.
func checkMapping(node *yaml.Node, prefix string, defaults map[string]any, seen map[string]bool) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], resolve(node.Content[i+1])
		key := prefix + strings.ToLower(name.Value)
		want, leaf := defaults[key]
		if seen[key] {
			return fmt.Errorf("line %d: %s: it is there twice", name.Line, key)
		}
		var err error
		switch {
		case name.Value == "<<": // what is merged stands below what is written here
			for _, n := range merged(value) {
				if err = checkMapping(n, prefix, defaults, make(map[string]bool)); err != nil {
					break
				}
			}
		case isNull(value):
			if narrows(key) {
				err = fmt.Errorf("line %d: %s: %s", name.Line, key, nothingThere)
			}
			seen[key] = true
		case leaf:
			fault := checkForm(value, want)
			if fault == "" && allows(key) && value.Kind == yaml.SequenceNode && len(value.Content) == 0 {
				fault = "the list is empty, but without a list everything is allowed; write what is allowed, or take the key out"
			}
			if fault != "" {
				err = fmt.Errorf("line %d: %s: %s", value.Line, key, fault)
			}
			seen[key] = true
		case isSection(key, defaults) && value.Kind == yaml.MappingNode:
			if err = checkMapping(value, key+".", defaults, seen); !strings.Contains(name.Value, ".") {
				seen[key] = true
			}
		case isSection(key, defaults):
			err = fmt.Errorf("line %d: %s: it is a section; write keys under it", value.Line, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isSection(key string, defaults map[string]any) bool {
	for k := range defaults {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

const nothingThere = "nothing stands there; write a value, or take the key out"

// checkForm returns what is wrong with a value in the place of a default, "" if
// nothing is, as far as decoding would not say it.
func checkForm(value *yaml.Node, want any) string {
	switch want.(type) {
	case []string:
		if value.Kind != yaml.SequenceNode && (value.Kind != yaml.ScalarNode || value.Value == "") {
			return "it is no list; write one such as [a, b], or [] for an empty one"
		}
		if slices.ContainsFunc(value.Content, func(n *yaml.Node) bool { return isNull(resolve(n)) }) {
			return "one of its entries is empty; write a value, or take the entry out"
		}
	case bool:
		if value.Kind != yaml.ScalarNode || value.Value != "true" && value.Value != "false" && value.Tag != "!!bool" {
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

// merged are the mappings that a merge key names.
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
