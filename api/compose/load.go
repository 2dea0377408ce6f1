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
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/towline/towline/puller"
)

// ErrNoFile means that no file was named, and that no default file exists.
var ErrNoFile = errors.New("there is no compose.yaml here or above")

// Source names a Compose project, as the options of docker compose do. All fields are
// optional.
type Source struct {
	Files     []string // merged in their order; - is the standard input
	EnvFiles  []string // in place of .env; a later one overrides an earlier one
	Profiles  []string // in place of COMPOSE_PROFILES
	Directory string   // of .env and of relative paths
	Name      string   // of the project, ${COMPOSE_PROJECT_NAME}

	// Names are services to take, also where no profile has them, and images. Without a
	// service among them, all services are taken.
	Names []string
	// Dependencies takes those of the named services, too.
	Dependencies bool
	// IgnoreBuildable leaves out services that can be built.
	IgnoreBuildable bool
}

// Project is a Compose project that was loaded.
type Project struct {
	puller.PrewarmRequest
	// Rest are those of Source.Names that are no services.
	Rest []string
	// Requests are the pulls of services by their names, as they are in Images. Services
	// that are skipped are not among them.
	Requests map[string]puller.PullRequest
	// Buildable are services that can be built, by the full name of their image. Images
	// has it: there may be one in the registry.
	Buildable map[string]string
}

// Load returns a Compose project, with the request for the images that docker compose
// pull pulls. It reads the project as docker compose does. If s names no files, it reads those of COMPOSE_FILE (split at
// COMPOSE_PATH_SEPARATOR), or the default files in the working directory or a parent.
// Variables come from the process, and then from the files of COMPOSE_ENV_FILES or from
// .env (not with COMPOSE_DISABLE_ENV_FILE). Those files may also set the variables
// named here. include and extends read other local files. env_file does not. The
// platform of the request is DOCKER_DEFAULT_PLATFORM.
//
// Images are in the order of their services' names. The error is ErrInvalidRequest and
// names the file, or the services and fields, at fault. compose-go writes warnings to
// the standard logger of logrus, for example of variables that have no value.
func Load(ctx context.Context, s Source) (r Project, err error) {
	if len(s.EnvFiles) == 0 {
		s.EnvFiles = strings.FieldsFunc(os.Getenv("COMPOSE_ENV_FILES"), func(c rune) bool { return c == ',' })
	}
	watch := substitution{unset: map[string][]string{}}
	options, err := cli.NewProjectOptions(s.Files,
		cli.WithResourceLoader(remote{}),
		cli.WithWorkingDirectory(s.Directory),
		cli.WithOsEnv,
		withWorkingDirectory,
		// .env is in the directory of the files, or in the working directory. It may
		// name the files. Then the .env in their directory is read, too.
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
			if o.Interpolate != nil { // nil while compose-go searches the files
				o.Interpolate.Substitute = watch.substitute
			}
			// The check stops at the first fault. The fields that images need are
			// checked below, for all services.
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
		// The schema check stops at the first fault.
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
	if loaded, r.Rest, err = choose(loaded, s); err != nil {
		return Project{}, fromCompose(options.ConfigPaths, err)
	}
	p := project{
		pulls: true, ignoreBuildable: s.IgnoreBuildable,
		faults: found,
		at: func(path string, err error) error {
			return invalid("%s%s: %w", position(options.ConfigPaths, files(), path), clip(path), err)
		},
		// compose-go has expanded the variables. watch knows which had no value.
		resolve: func(text string) (string, []string, error) { return text, watch.unset[text], nil },
	}
	for _, name := range slices.Sorted(maps.Keys(loaded.Services)) {
		p.services = append(p.services, loaded.Services[name])
	}
	platform, err := p.platform(options.Environment[defaultPlatform])
	if err != nil {
		p.faults.add(p.at(defaultPlatform, err))
	}
	if r.PrewarmRequest, err = p.request(); err != nil {
		return Project{}, err
	}
	r.Platform, r.Requests, r.Buildable = platform, p.requests, p.buildable
	return r, nil
}

// choose takes the services that are named, and returns the names of no service.
func choose(all *types.Project, s Source) (chosen *types.Project, rest []string, err error) {
	var names []string
	for _, name := range s.Names {
		_, active := all.Services[name]
		_, other := all.DisabledServices[name]
		if active || other {
			names = append(names, name)
		} else {
			rest = append(rest, name)
		}
	}
	if len(names) == 0 {
		return all, rest, nil
	}
	if all, err = all.WithServicesEnabled(names...); err != nil {
		return nil, nil, err
	}
	which := types.IgnoreDependencies
	if s.Dependencies {
		which = types.IncludeDependencies
	}
	chosen, err = all.WithSelectedServices(names, which)
	return chosen, rest, err
}

// readAll reads files so that errors can name lines. A file that can't be read, such as
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

// position returns the file and line of a path such as services.web.image, or of its
// nearest parent, as "compose.yaml: line 3: ". The last file that has the path counts.
// It returns "" if no file has it, for example because it is in an included file.
func position(names []string, files []*file, path string) string {
	for path != "" {
		parent := path[:max(0, strings.LastIndexByte(path, '.'))]
		for i, f := range slices.Backward(files) {
			// If a file does not have the path, its line is that of the parent.
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

// fromCompose returns an error of compose-go as an error of the caller. If it names no
// file, the files are written before it.
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

// substitution expands variables with compose-go, which warns of variables without a
// value. It remembers those variables by the expanded text.
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
