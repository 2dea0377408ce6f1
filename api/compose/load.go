package compose

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"

	"github.com/towline/towline/puller"
)

// ErrNoFile says that no file was named, and there is no default one.
var ErrNoFile = errors.New("there is no compose.yaml here or above")

// Load returns what a prewarm of Compose files asks for, read as docker compose
// reads them: the files are merged in their order, - is the standard input, and
// without any there are those of COMPOSE_FILE or the default ones in the
// working directory or above it. Variables come from the process and from .env,
// and profiles from COMPOSE_PROFILES if none are given. include and extends
// read other files, env_file does not. Where the images leave the platform
// open, it is DOCKER_DEFAULT_PLATFORM.
//
// Images are in the order of their services' names. The error is InvalidRequest
// and names the file, or the service and field, at fault. compose-go writes its
// warnings to the standard logger of logrus.
func Load(ctx context.Context, paths, profiles []string) (r puller.PrewarmRequest, err error) {
	quiet := substitution{unset: map[string][]string{}}
	options, err := cli.NewProjectOptions(paths,
		cli.WithOsEnv,
		// .env is beside the files, or in the working directory; it may name the
		// files, and then there is one beside them.
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithDefaultConfigPath,
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithDefaultProfiles(profiles...),
		cli.WithoutEnvironmentResolution,
		cli.WithoutLabelsResolution,
		cli.WithLoadOptions(func(o *loader.Options) {
			if o.Interpolate != nil { // nil while the files are looked for
				o.Interpolate.Substitute = quiet.substitute
			}
		}),
	)
	if err != nil {
		return r, fromCompose(paths, err)
	}
	if len(options.ConfigPaths) == 0 {
		return r, invalid("compose: %w; name a file", ErrNoFile)
	}
	loaded, err := options.LoadProject(ctx)
	if err != nil {
		return r, fromCompose(options.ConfigPaths, err)
	}
	p := project{
		at: func(path string, err error) error { return invalid("%s: %w", clip(path), err) },
		// The variables are in it; what they left is looked up.
		resolve: func(text string) (string, []string, error) { return text, quiet.unset[text], nil },
	}
	for _, name := range slices.Sorted(maps.Keys(loaded.Services)) {
		p.services = append(p.services, loaded.Services[name])
	}
	if r, err = p.request(); err != nil {
		return r, err
	}
	r.Platform = options.Environment["DOCKER_DEFAULT_PLATFORM"]
	return r, nil
}

// fromCompose makes what compose-go says the caller's error, behind the files
// where it does not name one.
func fromCompose(paths []string, err error) error {
	message := strings.Replace(err.Error(), " false schema", ": the Compose specification has no such field", 1)
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

// substitution puts variables in as compose-go does, and remembers the texts
// that came of variables without a value.
type substitution struct {
	unset map[string][]string
}

func (s *substitution) substitute(text string, mapping template.Mapping) (string, error) {
	value, err := template.SubstituteWithOptions(text, mapping, template.WithoutLogging)
	if err != nil || value == text {
		return value, err
	}
	if _, unset, err := expand(text, mapping); err == nil && len(unset) > 0 {
		s.unset[value] = unset
	}
	return value, nil
}
