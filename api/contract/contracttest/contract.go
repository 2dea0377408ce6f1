// Package contracttest compares what an API's tests send and get with the contract of
// the API.
package contracttest

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/api/contract"
)

// Contract is a parsed contract. It may be used from several goroutines.
type Contract struct {
	root       map[string]any
	operations []*Operation

	mu      sync.Mutex
	schemas *jsonschema.Compiler
	seen    map[string]bool // answers that were compared
}

// Operation is a method of a path.
type Operation struct {
	Method, Path string
	ID           string
	Docker       bool     // it is of the Docker Engine API
	Scopes       []string // of its security; nil if it needs no caller
	Query        []string // the names of its query parameters

	route      *regexp.Regexp
	parameters []parameter
	request    map[string]string         // media type to the location of its schema
	responses  map[string]map[string]any // by status
	locations  map[string]string         // of the responses
}

type parameter struct {
	name, in string
	list     bool
	schema   string // its location
}

// Load returns the contract, parsed once.
var Load = sync.OnceValue(func() *Contract {
	c := &Contract{seen: make(map[string]bool), schemas: jsonschema.NewCompiler()}
	if err := yaml.Unmarshal(contract.Document(), &c.root); err != nil {
		panic("contracttest: openapi.yaml: " + err.Error())
	}
	closeObjects(c.root)
	c.schemas.AssertFormat()
	if err := c.schemas.AddResource(resource, c.root); err != nil {
		panic("contracttest: openapi.yaml: " + err.Error())
	}
	for path, item := range object(c.root["paths"]) {
		c.addPath(path, object(item))
	}
	slices.SortFunc(c.operations, func(a, b *Operation) int { return strings.Compare(a.String(), b.String()) })
	return c
})

const resource = "towline:///openapi.yaml"

// closeObjects has objects refuse properties that the contract does not name. To
// clients, the contract is open: they must ignore what they do not know.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["additionalProperties"]; !ok && v["type"] == "object" && v["properties"] != nil {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			closeObjects(inner)
		}
	case []any:
		for _, inner := range v {
			closeObjects(inner)
		}
	}
}

func (c *Contract) addPath(path string, item map[string]any) {
	for method, v := range item {
		switch method {
		case "get", "post", "put", "patch", "delete":
		default:
			continue
		}
		op, at := object(v), "#/paths/"+escape(path)+"/"+method
		o := &Operation{
			Method: strings.ToUpper(method), Path: path, ID: text(op["operationId"]), Docker: slices.Contains(list(op["tags"]), any("docker")),
			request: make(map[string]string), responses: make(map[string]map[string]any), locations: make(map[string]string),
		}
		segment := "[^/]+"
		if o.Docker {
			segment = ".+" // the name of an image has slashes
		}
		o.route = regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllLiteralString(regexp.QuoteMeta(path), segment) + "$")
		o.Scopes = scopes(c.root["security"])
		if own, ok := op["security"]; ok {
			o.Scopes = scopes(own)
		}
		for i, p := range list(item["parameters"]) {
			o.add(c, p, fmt.Sprintf("#/paths/%s/parameters/%d", escape(path), i))
		}
		for i, p := range list(op["parameters"]) {
			o.add(c, p, fmt.Sprintf("%s/parameters/%d", at, i))
		}
		for media := range object(object(op["requestBody"])["content"]) {
			o.request[media] = at + "/requestBody/content/" + escape(media) + "/schema"
		}
		for status, r := range object(op["responses"]) {
			o.responses[status], o.locations[status] = c.resolve(r, at+"/responses/"+status)
		}
		c.operations = append(c.operations, o)
	}
}

func (o *Operation) add(c *Contract, v any, at string) {
	p, at := c.resolve(v, at)
	schema, _ := c.resolve(p["schema"], "")
	o.parameters = append(o.parameters, parameter{text(p["name"]), text(p["in"]), schema["type"] == "array", at + "/schema"})
	if p["in"] == "query" {
		o.Query = append(o.Query, text(p["name"]))
	}
}

func (o *Operation) String() string { return o.Method + " " + o.Path }

// answer names an answer. media is "" for one without a body.
func (o *Operation) answer(status, media string) string {
	return strings.TrimSpace(o.String() + " " + status + " " + media)
}

// scopes returns the roles of security requirements, which all have the same.
func scopes(v any) []string {
	for _, alternative := range list(v) {
		for _, roles := range object(alternative) {
			all := []string{}
			for _, role := range list(roles) {
				all = append(all, text(role))
			}
			return all
		}
	}
	return nil
}

// Operations returns the operations, sorted.
func (c *Contract) Operations() []*Operation { return slices.Clone(c.operations) }

// Unseen returns the answers of success that no test has had, of the operations of the
// Docker Engine API, or of the others.
func (c *Contract) Unseen(docker bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, o := range c.operations {
		for status, response := range o.responses {
			if o.Docker != docker || status[0] != '2' {
				continue
			}
			kinds := slices.Collect(maps.Keys(object(response["content"])))
			if len(kinds) == 0 {
				kinds = []string{""}
			}
			for _, media := range kinds {
				if key := o.answer(status, media); !c.seen[key] {
					all = append(all, key)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// operation returns the operation of a request, nil if there is none.
func (c *Contract) operation(r *http.Request) *Operation {
	method, path := r.Method, r.URL.Path
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path = version.ReplaceAllString(path, "/")
	for _, o := range c.operations {
		if o.Method == method && o.route.MatchString(path) && (o.Docker || path == r.URL.Path) {
			return o
		}
	}
	return nil
}

// version is how a path of the Docker Engine API may begin.
var version = regexp.MustCompile(`^/v[0-9]+\.[0-9]+/`)

// resolve follows a reference. It returns the value and its location.
func (c *Contract) resolve(v any, at string) (map[string]any, string) {
	for {
		m := object(v)
		ref, ok := m["$ref"].(string)
		if !ok {
			return m, at
		}
		var target any = c.root
		for _, part := range strings.Split(ref, "/")[1:] {
			target = object(target)[part]
		}
		if target == nil {
			panic("contracttest: openapi.yaml: " + ref + " leads nowhere")
		}
		v, at = target, ref
	}
}

// check compares a value with the schema at a location.
func (c *Contract) check(at string, v any) error {
	schema, err := c.schema(at, v)
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

func (c *Contract) schema(at string, v any) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Of alternatives, only the one that the discriminator names is compared: its faults
	// can be read.
	m, where := c.resolve(c.value(at), at)
	if d := object(m["discriminator"]); d != nil {
		kind, _ := object(v)[text(d["propertyName"])].(string)
		ref := text(object(d["mapping"])[kind])
		if ref == "" {
			return nil, fmt.Errorf("%s: there is no %q", where, kind)
		}
		at = ref
	}
	return c.schemas.Compile(resource + at)
}

// value returns what is at a location.
func (c *Contract) value(at string) any {
	var v any = c.root
	for _, part := range strings.Split(at, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch inner := v.(type) {
		case map[string]any:
			v = inner[part]
		case []any:
			i := 0
			fmt.Sscan(part, &i)
			v = inner[i]
		}
	}
	return v
}

// Unused returns the components that nothing refers to.
func (c *Contract) Unused() []string {
	used := make(map[string]bool)
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(c.root)
	var unused []string
	for kind, all := range object(c.root["components"]) {
		for name := range object(all) {
			if at := "#/components/" + kind + "/" + name; kind != "securitySchemes" && !used[at] {
				unused = append(unused, at)
			}
		}
	}
	slices.Sort(unused)
	return unused
}

// Enum returns the values of a schema that is an enumeration.
func (c *Contract) Enum(name string) []string {
	var all []string
	for _, v := range list(object(c.value("#/components/schemas/" + name))["enum"]) {
		all = append(all, text(v))
	}
	return all
}

func escape(s string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(s) }

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }
func list(v any) []any            { l, _ := v.([]any); return l }
func text(v any) string           { s, _ := v.(string); return s }

// mediaOf returns the media type of a Content-Type.
func mediaOf(header string) string {
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return header
	}
	return media
}

func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
