package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"

	"github.com/towline/towline/puller"
)

// ErrNoFile says that no file was named, and there is no default one.
var ErrNoFile = errors.New("there is no compose.yaml here or above")

// Source is a Compose project as docker compose is told of one. All fields may
// be left out.
type Source struct {
	Files     []string // merged in their order; - is the standard input
	EnvFiles  []string // in place of .env; a later one counts more
	Profiles  []string // in place of COMPOSE_PROFILES
	Directory string   // of .env, and what relative paths are relative to
	Name      string   // of the project, ${COMPOSE_PROJECT_NAME}
}

// Load returns what a prewarm of a Compose project asks for, read as docker
// compose reads it: without files there are those of COMPOSE_FILE (split at
// COMPOSE_PATH_SEPARATOR) or the default ones in the working directory or above
// it. Variables come from the process, and then from the files of
// COMPOSE_ENV_FILES or .env (none with COMPOSE_DISABLE_ENV_FILE), which may set
// those named here too. include and extends read other local files, env_file
// does not. Where the images leave the platform open, it is
// DOCKER_DEFAULT_PLATFORM.
//
// Images are in the order of their services' names. The error is ErrInvalidRequest
// and names the file, or the services and fields, at fault. compose-go writes its
// warnings, such as those of variables that have no value, to the standard logger
// of logrus.
func Load(ctx context.Context, s Source) (r puller.PrewarmRequest, err error) {
	if len(s.EnvFiles) == 0 {
		s.EnvFiles = strings.FieldsFunc(os.Getenv("COMPOSE_ENV_FILES"), func(c rune) bool { return c == ',' })
	}
	watch := substitution{unset: map[string][]string{}}
	options, err := cli.NewProjectOptions(s.Files,
		cli.WithResourceLoader(remote{}),
		cli.WithWorkingDirectory(s.Directory),
		cli.WithOsEnv,
		withWorkingDirectory,
		// .env is beside the files, or in the working directory; it may name the
		// files, and then there is one beside them.
		cli.WithEnvFiles(s.EnvFiles...),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithDefaultConfigPath,
		cli.WithEnvFiles(s.EnvFiles...),
		cli.WithDotEnv,
		cli.WithDefaultProfiles(s.Profiles...),
		cli.WithName(s.Name),
		cli.WithoutEnvironmentResolution,
		cli.WithoutLabelsResolution,
		cli.WithLoadOptions(func(o *loader.Options) {
			if o.Interpolate != nil { // nil while the files are looked for
				o.Interpolate.Substitute = watch.substitute
			}
			// It stops at the first fault. What images need is checked below, for all
			// services.
			o.SkipConsistencyCheck = true
		}),
	)
	if err != nil {
		return r, fromCompose(s.Files, err)
	}
	if len(options.ConfigPaths) == 0 {
		return r, invalid("compose: %w; name a file", ErrNoFile)
	}
	files := sync.OnceValue(func() []*file { return readAll(options.ConfigPaths) })
	loaded, err := options.LoadProject(ctx)
	var found Faults
	if err != nil && strings.HasPrefix(err.Error(), "validating ") {
		// The schema stops at the first fault.
		var harmless bool
		if found, harmless = schemaFaultsOf(files()); harmless {
			cli.WithLoadOptions(loader.WithSkipValidation)(options)
			loaded, err = options.LoadProject(ctx)
		}
	}
	switch {
	case err != nil && len(found) > 0:
		return r, found.err()
	case err != nil:
		return r, fromCompose(options.ConfigPaths, err)
	}
	if len(loaded.Services)+len(loaded.DisabledServices) == 0 {
		return r, invalid("%s: services: %w", strings.Join(options.ConfigPaths, ", "), errNoServices)
	}
	p := project{
		faults: found,
		at: func(path string, err error) error {
			return invalid("%s%s: %w", position(options.ConfigPaths, files(), path), clip(path), err)
		},
		// The variables are in it; what they left is looked up.
		resolve: func(text string) (string, []string, error) { return text, watch.unset[text], nil },
	}
	for _, name := range slices.Sorted(maps.Keys(loaded.Services)) {
		p.services = append(p.services, loaded.Services[name])
	}
	platform, err := p.platform(options.Environment[defaultPlatform])
	if err != nil {
		p.faults.add(p.at(defaultPlatform, err))
	}
	if r, err = p.request(); err != nil {
		return r, err
	}
	r.Platform = platform
	return r, nil
}

// readAll reads files for the lines of what is in them. One that can't be read, as
// the standard input, is nil.
func readAll(paths []string) []*file {
	files := make([]*file, len(paths))
	for i, path := range paths {
		if content, err := os.ReadFile(path); err == nil {
			if files[i], _ = read(content); files[i] != nil {
				files[i].name = path
			}
		}
	}
	return files
}

// position returns the file and the line that a path such as services.web.image
// stands at, or what it is in, as "compose.yaml: line 3: "; "" where none of the
// files has it, as what is included. Of two files with the same path the last one
// counts.
func position(names []string, files []*file, path string) string {
	for path != "" {
		parent := path[:max(0, strings.LastIndexByte(path, '.'))]
		for i, f := range slices.Backward(files) {
			// Of a path that it does not have, a file tells the line of the parent.
			if f != nil && f.line(path) != f.line(parent) {
				return fmt.Sprintf("%s: line %d: ", names[i], f.line(path))
			}
		}
		path = parent
	}
	return ""
}

const defaultPlatform = "DOCKER_DEFAULT_PLATFORM"

// withWorkingDirectory sets PWD where the process has none.
func withWorkingDirectory(o *cli.ProjectOptions) error {
	if _, ok := o.Environment["PWD"]; ok {
		return nil
	}
	directory, err := os.Getwd()
	o.Environment["PWD"] = directory
	return err
}

// fromCompose makes what compose-go says the caller's error, behind the files
// where it does not name one.
func fromCompose(paths []string, err error) error {
	message := strings.Replace(err.Error(), " false schema", ": the Compose specification has no such field", 1)
	if _, cause, ok := strings.Cut(message, "\" is invalid: "); ok { // a file that can't be read
		message = cause
	}
	for _, path := range paths {
		if strings.Contains(message, filepath.Base(path)) {
			return invalid("%s", message)
		}
	}
	if len(paths) == 0 {
		return invalid("compose: %s", message)
	}
	return invalid("%s: %s", strings.Join(paths, ", "), message)
}

// substitution puts variables in as compose-go does, which warns of those that
// have no value, and remembers the texts that came of them.
type substitution struct {
	unset map[string][]string
}

func (s *substitution) substitute(text string, mapping template.Mapping) (string, error) {
	value, err := template.Substitute(text, mapping)
	if err != nil || value == text {
		return value, err
	}
	if _, unset, err := expand(text, mapping); err == nil && len(unset) > 0 {
		s.unset[value] = unset
	}
	return value, nil
}
