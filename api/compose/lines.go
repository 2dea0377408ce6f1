package compose

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// line returns the line of the value at a dotted path. If the value does not exist, it is
// the line of the last key of the path that does; 0 if none does. Keys may have dots.
// The line of an aliased or merged value is the line where it is written.
func (f *file) line(path string) int {
	line := 0
	for _, tree := range f.trees {
		if at := lineOf(tree, path, 0); at > 0 {
			line = at // a later document overrides an earlier one
		}
	}
	return line
}

// serviceLines returns the line of each service, without services from a merge key.
func (f *file) serviceLines() map[string]int {
	lines := map[string]int{}
	for _, tree := range f.trees {
		services := child(tree.Content[0], "services")
		if services == nil {
			continue
		}
		for i := 0; i+1 < len(services.Content); i += 2 {
			if key := services.Content[i]; lines[key.Value] == 0 {
				lines[key.Value] = key.Line
			}
		}
	}
	return lines
}

// child returns the mapping under a key, nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if value := n.Content[i+1]; n.Content[i].Value == key {
			if value.Kind == yaml.AliasNode {
				value = value.Alias
			}
			if value.Kind == yaml.MappingNode {
				return value
			}
		}
	}
	return nil
}

func lineOf(n *yaml.Node, path string, depth int) int {
	if depth > maxDepth || path == "" {
		return 0
	}
	switch n.Kind {
	case yaml.DocumentNode:
		for _, child := range n.Content {
			return lineOf(child, path, depth+1)
		}
	case yaml.AliasNode:
		return lineOf(n.Alias, path, depth+1)
	case yaml.SequenceNode:
		index, rest, _ := strings.Cut(path, ".")
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(n.Content) {
			return max(n.Content[i].Line, lineOf(n.Content[i], rest, depth+1))
		}
	case yaml.MappingNode:
		merged := 0
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			rest, ok := strings.CutPrefix(path, key.Value)
			switch {
			case ok && (rest == "" || rest[0] == '.'):
				if at := lineOf(value, strings.TrimPrefix(rest, "."), depth+1); at > 0 {
					return at
				}
				return key.Line
			case key.Value == "<<":
				sources := []*yaml.Node{value}
				if value.Kind == yaml.SequenceNode {
					sources = value.Content
				}
				for _, source := range sources {
					if merged == 0 {
						merged = lineOf(source, path, depth+1)
					}
				}
			}
		}
		return merged
	}
	return 0
}
