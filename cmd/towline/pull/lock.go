package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/follow"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// NewLock returns the command lock.
func NewLock(f *command.Flags) *cobra.Command {
	var source compose.Source
	var output string
	cmd := &cobra.Command{
		Use:               "lock [FILE...]",
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		Short:             "Pull the images of a Compose project, and write their digests to a file",
		Long: "Pull the images of a Compose project, as prewarm does, and write a second Compose\n" +
			"file that overrides the image of each service by the digest that was proven. With\n" +
			"both files, docker compose runs exactly these images. The file is compose.lock.yaml\n" +
			"beside compose.yaml, or is named after the first FILE. It is written only if all\n" +
			"images are proven. Services that are skipped are not in it.",
		Example: "  towline lock compose.yaml\n" +
			"  docker compose -f compose.yaml -f compose.lock.yaml up --pull never",
		RunE: func(cmd *cobra.Command, files []string) error {
			source.Files, source.IgnoreBuildable = files, true
			if len(files) == 0 {
				if source.Files = composeFile(); source.Files == nil {
					return exit.Usage(errors.New("FILE is missing: this directory has no compose.yaml"), cmd.CommandPath())
				}
			}
			if output == "" {
				output = lockName(source.Files[0])
			}
			errs := cmd.ErrOrStderr()
			restore := command.RedirectWarnings(errs, f.Quiet)
			project, err := compose.Load(cmd.Context(), source)
			restore()
			if err != nil {
				return err
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, stop := follow.Interruptible(cmd.Context())
			defer stop()
			tellSkipped(f, project.Skipped, errs)
			if len(project.Images) > 0 {
				own := logins(ctx, f, imagesOf(project.Images), errs)
				project.Logins = own.Sent
				if err := Prewarm(ctx, f, c, project.PrewarmRequest, nil, f.Display(errs), errs); err != nil {
					return own.Explain(err)
				}
			}
			return lock(ctx, f, c, project, output, cmd.OutOrStdout(), errs)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&source.Profiles, "profile", nil, "Compose `profile` to include; repeat it for several")
	flags.StringArrayVar(&source.EnvFiles, "env-file", nil, "`file` of variables, instead of .env; repeat it for several")
	flags.StringVar(&source.Directory, "project-directory", "", "`directory` of the project (default: that of the first file)")
	flags.StringVarP(&output, "output", "o", "", "`file` to write, - for the standard output")
	credentialsFlag(f, cmd)
	return cmd
}

// composeFile returns the Compose file of this directory, nil where there is none.
func composeFile() []string {
	for _, name := range []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"} {
		if _, err := os.Stat(name); err == nil {
			return []string{name}
		}
	}
	return nil
}

// lockName returns compose.lock.yaml for compose.yaml.
func lockName(file string) string {
	extension := filepath.Ext(file)
	return strings.TrimSuffix(file, extension) + ".lock" + extension
}

// lock writes the digests of a project's images, which are there, to a file.
func lock(ctx context.Context, f *command.Flags, c *client.Client, p compose.Project, output string, out, errs io.Writer) error {
	type service struct {
		Image string `yaml:"image"`
	}
	services := make(map[string]service)
	for _, name := range slices.Sorted(maps.Keys(p.Requests)) {
		r := p.Requests[name]
		if r.Platform == "" {
			r.Platform = p.Platform
		}
		r.Policy = puller.PolicyNever // it has been pulled; this proves it
		job, err := c.Pull(ctx, client.PullOf(r))
		switch {
		case err != nil:
			return fmt.Errorf("service %s: %w", name, err)
		case job.Result == nil || job.Result.Digest == "":
			return fmt.Errorf("service %s: %s has no digest of a registry, so that it can't be locked; name an image of a registry", name, r.Image)
		}
		services[name] = service{render.Reference(r.Image, job.Result)}
	}
	content, err := yaml.Marshal(map[string]any{"services": services})
	if err != nil {
		return err
	}
	content = append([]byte("# Written by \"towline lock\": the images that were proven.\n"), content...)
	if output == "-" {
		_, err := out.Write(content)
		return err
	}
	if err := writeFile(output, content); err != nil {
		return err
	}
	if !f.Quiet {
		fmt.Fprintln(errs, "towline: "+render.SafeText(fmt.Sprintf("%s has the digests of %s", output, render.Count(len(services), "service"))))
	}
	return nil
}

// writeFile replaces a file at once, so that no reader sees a part of it.
func writeFile(name string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}
