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

// Limits of what compose-go is given to merge, whose time grows with more than
// the number of services.
const (
	maxServices = 3000 // in all documents; a prewarm takes fewer images
	maxExtends  = 32   // services that extend one another in a row
)

// Parse returns what a prewarm of a Compose file asks for. It takes bytes from
// anyone: nothing but them and the variables is read, and what is in them is
// bounded.
//
// Services without profiles are active, and those with an active one; * is all
// of them. Images are in the order of their services in the file. Only what
// says which images there are must be there to be read: env_file, secrets,
// mounts and variables used elsewhere are passed over.
//
// The error is ErrInvalidRequest and names the line, or the service and field, at
// fault. It is one, too, where the images depend on another file (include,
// extends with a file) or on a variable that has no value.
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
			return r, f.at("services", invalid("%d of them; at most %d are taken", count, maxServices))
		}
		if err := context.Cause(ctx); err != nil {
			return r, err
		}
		if err := f.check(model, lookup); err != nil {
			return r, err
		}
		reduced = append(reduced, reduce(model))
		// Content stands for what compose-go would otherwise open.
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

// noValue says what to do about variables that have no value.
func noValue(names []string) error {
	return invalid("no value for the variable %s; give it one, or a default, as in ${%s:-default}", clip(strings.Join(names, ", ")), clip(names[0]))
}

// offline has compose-go do no more than merge and extend services.
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

// nowhere stands before the loader of local files and takes all of them.
type nowhere struct{}

func (nowhere) Accept(string) bool { return true }

func (nowhere) Load(_ context.Context, path string) (string, error) { return "", otherFile(path) }

func (nowhere) Dir(string) string { return "" }

func otherFile(path string) error {
	if isRemote(path) {
		return remoteFile(path)
	}
	return invalid("the daemon reads no other file, so not %q; towline prewarm -f reads it where you are", clip(path))
}

// check holds one document against the Compose specification's schema, after
// what needs another file has been refused. It puts variables into the
// pull policies, which the schema looks into.
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
				return f.at("services."+name+".extends", invalid("the service extends itself, if by way of others"))
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

// extended returns the name of the service that one extends, "" for none.
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

// checkPolicy puts variables into the pull policy of a container. One that is
// wrong is told with what else is, and left out.
func (f *file) checkPolicy(path string, container map[string]any, lookup lookup) {
	text, ok := container["pull_policy"].(string)
	if !ok {
		return // the schema says what is wrong with it
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

// fieldIn finds what compose-go says is wrong.
var fieldIn = regexp.MustCompile(`\b(?:services|jobs|networks|volumes|secrets|configs|models|include)(?:\.[^\s:,]+)+`)

// unknownKey finds the key that the schema does not have, in both of its words
// for it.
var unknownKey = regexp.MustCompile(`(?:additional properties '([^']+)'.* not allowed| false schema)$`)

// fault makes an error of compose-go the caller's error, with the line if it can be
// found. It returns the path at fault, "" where there is none, and whether the
// Compose specification has no such field.
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

// at puts the line and the path before an error.
func (f *file) at(path string, err error) error {
	if line := f.line(path); line > 0 {
		return invalid("%s: line %d: %s: %w", f.name, line, clip(path), err)
	}
	return invalid("%s: %s: %w", f.name, clip(path), err)
}
