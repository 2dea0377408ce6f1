package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/towline/towline/puller"
)

// Limits of what compose-go merges. Its time grows faster than the number of services.
const (
	maxServices = 3000 // in all documents; a prewarm accepts fewer images
	maxExtends  = 32   // services that extend one another in a row
)

// Parse returns the prewarm request of a Compose file. The content is not trusted: Parse
// reads nothing but the content and the variables, and bounds its time and memory.
//
// A service is active if it has no profiles, or one of the given profiles. The profile *
// is all of them. Images are in the order of their services in the file. Parse ignores
// fields that do not decide the images: env_file, secrets, mounts, and variables in them.
//
// The error is ErrInvalidRequest and names the line, or the service and field, at fault.
// It is also an error if the images depend on another file (include, extends with a
// file) or on a variable without a value.
func Parse(ctx context.Context, content []byte, variables map[string]string, profiles []string) (r puller.PrewarmRequest, err error) {
	f, err := read(content)
	if err != nil {
		return r, err
	}
	models, err := f.models()
	if err != nil {
		return r, err
	}
	lookup := func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
	details := types.ConfigDetails{Environment: types.Mapping{}}
	var reduced []map[string]any
	count, listed := 0, false
	for _, model := range models {
		services, here := model["services"].(map[string]any)
		listed = listed || here
		if count += len(services); count > maxServices {
			return r, f.at("services", invalid("%d of them; at most %d are accepted", count, maxServices))
		}
		if err := context.Cause(ctx); err != nil {
			return r, err
		}
		if err := f.check(model, lookup); err != nil {
			return r, err
		}
		reduced = append(reduced, reduce(model))
		// With Content, compose-go does not open a file.
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: "body", Content: []byte{}, Config: reduced[len(reduced)-1]})
	}
	if count == 0 && !listed {
		return r, invalid("body: services: missing; a Compose file has at least one")
	}
	if count == 0 {
		return r, f.at("services", errNoServices)
	}
	if err := f.checkWork(reduced); err != nil {
		return r, err
	}
	if err := context.Cause(ctx); err != nil {
		return r, err
	}
	merged, err := loader.LoadModelWithContext(ctx, details, offline)
	if err != nil {
		_, _, err = f.fault(err)
		return r, err
	}
	all, err := f.services(merged, lookup, profiles)
	if err != nil {
		return r, err
	}
	p := project{services: all, at: f.at, resolve: func(text string) (string, []string, error) { return expand(text, lookup) }, strict: true, faults: f.faults}
	return p.request()
}

var errNoServices = invalid("there are none; add one")

// noValue returns the error for variables without a value.
func noValue(names []string) error {
	return invalid("no value for the variable %s; give it one, or a default, as in ${%s:-default}", clip(strings.Join(names, ", ")), clip(names[0]))
}

// offline makes compose-go only merge and extend services.
func offline(o *loader.Options) {
	o.SetProjectName("towline", true)
	o.SkipInterpolation = true
	o.SkipValidation = true // check has done it
	o.SkipNormalization = true
	o.SkipDefaultValues = true
	o.SkipInclude = true
	o.ResolvePaths = false
	o.ResourceLoaders = []loader.ResourceLoader{nowhere{}}
}

// nowhere is a loader that comes before the loader of local files and refuses all files.
type nowhere struct{}

func (nowhere) Accept(string) bool { return true }

func (nowhere) Load(_ context.Context, path string) (string, error) { return "", otherFile(path) }

func (nowhere) Dir(string) string { return "" }

func otherFile(path string) error {
	if isRemote(path) {
		return remoteFile(path)
	}
	return invalid("the daemon reads no other file, such as %q; use towline prewarm -f, which reads it on your machine", clip(path))
}

// check validates one document with the schema of the Compose specification. First it
// refuses references to other files. It expands the variables in pull policies, since
// the schema checks their values.
func (f *file) check(model map[string]any, lookup lookup) error {
	if include, ok := model["include"]; ok && include != nil {
		if list, ok := include.([]any); !ok || len(list) > 0 {
			return f.at("include", otherFile(firstPath(include)))
		}
	}
	services, _ := model["services"].(map[string]any)
	names := slices.Sorted(maps.Keys(services))
	for _, name := range names {
		service, _ := services[name].(map[string]any)
		path := "services." + name
		if extends, ok := service["extends"].(map[string]any); ok && extends["file"] != nil {
			return f.at(path+".extends", otherFile(fmt.Sprint(extends["file"])))
		}
		f.checkPolicy(path, service, lookup)
		hooks, _ := service["pre_start"].([]any)
		for i, h := range hooks {
			hook, _ := h.(map[string]any)
			f.checkPolicy(fmt.Sprintf("%s.pre_start.%d", path, i), hook, lookup)
		}
	}
	if all := f.schemaFaults(model); len(all) > 0 {
		for _, fault := range all {
			f.faults.add(fault.err)
		}
		return f.faults.err()
	}
	for _, name := range names {
		row, next := 0, name
		for ; next != "" && row <= maxExtends; row++ {
			next = extended(services[next])
			_, known := services[next]
			switch {
			case next == name:
				return f.at("services."+name+".extends", invalid("the service extends itself, directly or through others"))
			case next != "" && !known:
				return f.at("services."+name+".extends", invalid("there is no service %q in this file", clip(next)))
			}
		}
		if row > maxExtends {
			return f.at("services."+name+".extends", invalid("more than %d services that extend one another in a row", maxExtends))
		}
	}
	return nil
}

// extended returns the name of the service that a service extends, "" for none.
func extended(service any) string {
	fields, _ := service.(map[string]any)
	switch v := fields["extends"].(type) {
	case string:
		return v
	case map[string]any:
		return text(v["service"])
	}
	return ""
}

// checkPolicy expands the variables in the pull policy of a container. It removes a wrong
// policy and adds the fault to the others.
func (f *file) checkPolicy(path string, container map[string]any, lookup lookup) {
	text, ok := container["pull_policy"].(string)
	if !ok {
		return // the schema check finds the fault
	}
	value, _, err := expand(text, lookup)
	if err == nil {
		_, err = policy(value)
	}
	if err != nil {
		f.faults.add(f.at(path+".pull_policy", err))
		value = ""
	}
	if container["pull_policy"] = value; value == "" {
		delete(container, "pull_policy")
	}
}

// firstPath returns the first file of an include in any of its forms.
func firstPath(include any) string {
	switch v := include.(type) {
	case []any:
		if len(v) > 0 {
			return firstPath(v[0])
		}
	case map[string]any:
		return firstPath(v["path"])
	}
	return fmt.Sprint(include)
}

// fieldIn finds the field in an error of compose-go.
var fieldIn = regexp.MustCompile(`\b(?:services|jobs|networks|volumes|secrets|configs|models|include)(?:\.[^\s:,]+)+`)

// unknownKey finds the key that the schema does not have. The schema check has two
// texts for it.
var unknownKey = regexp.MustCompile(`(?:additional properties '([^']+)'.* not allowed| false schema)$`)

// fault returns an error of compose-go as an error of the caller, with the line if it is
// known. It also returns the path at fault, "" if there is none, and whether the Compose
// specification has no such field.
func (f *file) fault(err error) (path string, unknown bool, told error) {
	var known *puller.Error
	if errors.As(err, &known) {
		return "", false, known
	}
	message := strings.TrimSpace(err.Error())
	path = fieldIn.FindString(message)
	if key := unknownKey.FindStringSubmatch(message); key != nil {
		if key[1] != "" {
			path = strings.TrimPrefix(path+"."+key[1], ".")
		}
		return path, true, f.at(path, invalid("the Compose specification has no such field"))
	}
	if line := f.line(path); line > 0 {
		return path, false, invalid("%s: line %d: %s", f.name, line, clip(message))
	}
	return path, false, invalid("%s: %s", f.name, clip(message))
}

// at writes the line and the path before an error.
func (f *file) at(path string, err error) error {
	if line := f.line(path); line > 0 {
		return invalid("%s: line %d: %s: %w", f.name, line, clip(path), err)
	}
	return invalid("%s: %s: %w", f.name, clip(path), err)
}
