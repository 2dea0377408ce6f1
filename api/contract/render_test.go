package contract_test

import (
	"bytes"
	"encoding/json"
	"html/template"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// render renders a contract as a page.
func render(document []byte) ([]byte, error) {
	source, err := os.ReadFile("testdata/page.html")
	if err != nil {
		return nil, err
	}
	style, err := os.ReadFile("testdata/page.css")
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"prose": prose, "anchor": anchor, "style": func() template.CSS { return template.CSS(style) },
		"statuses": func(s string) string { return strings.ReplaceAll(s, "XX", "xx") },
		"upper":    strings.ToUpper,
	}).Parse(string(source))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, node{root: root.Content[0], Node: root.Content[0]})
	return b.Bytes(), err
}

// node is a value of the document, with its references followed.
type node struct {
	root *yaml.Node
	*yaml.Node
	Ref string // the name of the component that was referred to, "" for none
}

// member is a field of a mapping.
type member struct {
	Name     string
	Value    node
	Required bool // as a property
}

// follow returns the value itself for an alias, and the component for a reference.
func (n node) follow(v *yaml.Node) node {
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	next := node{root: n.root, Node: v}
	if ref := field(v, "$ref"); ref != nil {
		target := n.root
		for part := range strings.SplitSeq(strings.TrimPrefix(ref.Value, "#/"), "/") {
			if target = field(target, part); target == nil {
				return next // tests find it
			}
		}
		next = n.follow(target)
		next.Ref = ref.Value[strings.LastIndexByte(ref.Value, '/')+1:]
		if text := field(v, "description"); text != nil {
			// It is the more special one.
			own := *next.Node
			own.Content = append([]*yaml.Node{{Kind: yaml.ScalarNode, Value: "description"}, text}, own.Content...)
			next.Node = &own
		}
	}
	return next
}

func field(v *yaml.Node, name string) *yaml.Node {
	for i := 0; v.Kind == yaml.MappingNode && i+1 < len(v.Content); i += 2 {
		if v.Content[i].Value == name {
			return v.Content[i+1]
		}
	}
	return nil
}

// Get returns what is under the names, "" for none.
func (n node) Get(names ...string) node {
	for _, name := range names {
		if n.Node == nil {
			return node{}
		}
		v := field(n.Node, name)
		if v == nil {
			return node{}
		}
		n = n.follow(v)
	}
	return n
}

// Has reports whether there is something.
func (n node) Has() bool { return n.Node != nil }

// Text returns a scalar's text.
func (n node) Text() string {
	if n.Node == nil {
		return ""
	}
	return n.Node.Value
}

// List returns the items of a sequence.
func (n node) List() []node {
	var all []node
	if n.Node != nil && n.Kind == yaml.SequenceNode {
		for _, v := range n.Content {
			all = append(all, n.follow(v))
		}
	}
	return all
}

// Members returns the fields of a mapping.
func (n node) Members() []member {
	var all []member
	for i := 0; n.Node != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		all = append(all, member{Name: n.Content[i].Value, Value: n.follow(n.Content[i+1])})
	}
	return all
}

// Properties returns the properties of a schema.
func (n node) Properties() []member {
	all := n.Get("properties").Members()
	for i := range all {
		for _, name := range n.Get("required").List() {
			all[i].Required = all[i].Required || name.Text() == all[i].Name
		}
	}
	return all
}

// Operations returns the methods of a path that have a tag.
func (n node) Operations(tag string) []member {
	var all []member
	for _, m := range n.Members() {
		for _, t := range m.Value.Get("tags").List() {
			if t.Text() == tag {
				all = append(all, m)
			}
		}
	}
	return all
}

// Scope says which callers may use an operation.
func (n node) Scope() string {
	security := n.Get("security")
	if !security.Has() {
		return "any known caller"
	}
	for _, alternative := range security.List() {
		for _, m := range alternative.Members() {
			for _, role := range m.Value.List() {
				return "scope " + role.Text()
			}
		}
	}
	return "anybody"
}

// Type says in a few words what values a schema has.
func (n node) Type() template.HTML {
	if n.Ref != "" && field(n.root, "components") != nil && n.isSchema() {
		return template.HTML(`<a href="#` + anchor("schema", n.Ref) + `">` + template.HTMLEscapeString(n.Ref) + `</a>`)
	}
	return n.ownType()
}

// isSchema reports whether the component that was referred to is a schema.
func (n node) isSchema() bool {
	return field(field(field(n.root, "components"), "schemas"), n.Ref) != nil
}

func (n node) ownType() template.HTML {
	escape := template.HTMLEscapeString
	if n.Node == nil {
		return "anything"
	}
	var alternatives []string
	for _, name := range []string{"anyOf", "oneOf"} {
		for _, v := range n.Get(name).List() {
			alternatives = append(alternatives, string(v.Type()))
		}
	}
	switch kind := n.Get("type"); {
	case len(alternatives) > 0:
		return template.HTML(strings.Join(alternatives, " or "))
	case n.Get("enum").Has():
		for _, v := range n.Get("enum").List() {
			alternatives = append(alternatives, "<code>"+escape(shown(v.Text()))+"</code>")
		}
		return template.HTML(strings.Join(alternatives, " "))
	case n.Get("const").Has():
		return template.HTML("<code>" + escape(shown(n.Get("const").Text())) + "</code>")
	case kind.Text() == "array":
		return "list of " + n.Get("items").Type()
	case len(kind.List()) > 0:
		for _, v := range kind.List() {
			alternatives = append(alternatives, escape(v.Text()))
		}
		return template.HTML(strings.Join(alternatives, " or ")) + template.HTML(escape(n.bounds()))
	case kind.Text() == "object" && n.Get("additionalProperties", "type").Has():
		return "object of " + n.Get("additionalProperties").Type()
	default:
		return template.HTML(escape(kind.Text() + n.bounds()))
	}
}

func shown(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

// bounds says how large a value may be.
func (n node) bounds() string {
	low, high := n.Get("minimum").Text(), n.Get("maximum").Text()
	text := ""
	switch {
	case low != "" && high != "":
		text = ", " + low + " to " + high
	case low != "" && low != "0":
		text = ", from " + low
	}
	if most := n.Get("maxLength").Text(); most != "" {
		text += ", at most " + most + " bytes"
	}
	if value := n.Get("default").Text(); value != "" {
		text += ", default " + value
	}
	return text
}

// Example returns the example of a body as JSON.
func (n node) Example() (string, error) {
	v := n.Get("example")
	if !v.Has() {
		return "", nil
	}
	var value any
	if err := v.Decode(&value); err != nil {
		return "", err
	}
	raw, err := json.Marshal(value)
	return string(raw), err
}

var quoted = regexp.MustCompile("`([^`]*)`")

// prose returns a description: paragraphs, with code between backquotes.
func prose(text string) template.HTML {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if paragraph != "" {
			b.WriteString("<p>" + quoted.ReplaceAllString(template.HTMLEscapeString(paragraph), "<code>$1</code>") + "</p>")
		}
	}
	return template.HTML(b.String())
}

var notInAnchor = regexp.MustCompile(`[^A-Za-z0-9]+`)

// anchor returns the ID of a part of the page.
func anchor(words ...string) string {
	return strings.Trim(notInAnchor.ReplaceAllString(strings.Join(words, "-"), "-"), "-")
}
