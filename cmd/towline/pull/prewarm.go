package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/follow"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// NewPrewarm returns the command prewarm.
func NewPrewarm(f *command.Flags) *cobra.Command {
	var each client.PullRequest
	var retries int
	var source compose.Source
	var failFast, plan bool
	cmd := &cobra.Command{
		Use:   "prewarm [-f FILE]... [SERVICE|IMAGE...]",
		Short: "Pull many images as one job, also those of Compose files",
		Long: "Pull many images as one job: the images that are named, and those of Compose\n" +
			"files.\n\n" +
			"Compose files are read as docker compose reads them: with the variables of the\n" +
			"environment and of .env, with include, extends and profiles. Several files are\n" +
			"merged. Without -f, the files are those of COMPOSE_FILE, or the compose.yaml of\n" +
			"this directory or of one above. An argument that is the name of a service there\n" +
			"stands for its image; any other argument is an image.\n\n" +
			"As docker compose pull does, it skips services without an image and those whose\n" +
			"pull_policy is build or never, and it is no failure if the image of a service that\n" +
			"can be built is not in its registry. A warning names each variable without a value,\n" +
			"also with --quiet.",
		Example: "  towline prewarm              # all services of the compose.yaml that is here\n" +
			"  towline prewarm web db --include-deps\n" +
			"  towline prewarm -f compose.yaml -f compose.ci.yaml --profile test postgres:17\n" +
			"  towline prewarm --plan -f compose.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			errs := cmd.ErrOrStderr()
			loaded, err := prewarmRequest(f, cmd, args, source)
			if err != nil {
				return err
			}
			r := loaded.PrewarmRequest
			if each.Platform != "" {
				r.Platform = each.Platform
			}
			r.Policy, r.Strict, r.Priority, r.Timeout, r.FailFast = each.Policy, each.Strict, each.Priority, each.Timeout, failFast
			r.Accelerate, r.Lease = each.Accelerate, each.Lease
			if cmd.Flags().Changed("retries") {
				r.Retries = &retries
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			defer c.Close()
			// Not earlier: a signal ends the program while it reads the standard input.
			ctx, stop := follow.Interruptible(cmd.Context())
			defer stop()
			own := logins(ctx, f, imagesOf(r.Images), errs)
			r.Logins = own.Sent
			if plan {
				return printPlan(ctx, f, c, r, loaded.Buildable, cmd.OutOrStdout(), errs)
			}
			tellSkipped(f, r.Skipped, errs)
			if len(r.Images) == 0 {
				if !f.Quiet {
					fmt.Fprintln(errs, "towline: no image is left to pull")
				}
				return nil
			}
			return own.Explain(Prewarm(ctx, f, c, r, loaded.Buildable, f.Display(cmd.OutOrStdout()), errs))
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&source.Files, "file", "f", nil, "Compose `file`, or - for the standard input; repeat it for several")
	flags.StringArrayVar(&source.Profiles, "profile", nil, "Compose `profile` to include; repeat it for several")
	flags.StringArrayVar(&source.EnvFiles, "env-file", nil, "`file` of variables, instead of .env; repeat it for several")
	flags.StringVar(&source.Directory, "project-directory", "", "`directory` of the project (default: that of the first file)")
	flags.StringVarP(&source.Name, "project-name", "p", "", "`name` of the project")
	flags.BoolVar(&source.IgnoreBuildable, "ignore-buildable", false, "leave out services that can be built")
	flags.BoolVar(&source.Dependencies, "include-deps", false, "take the services that the named ones depend on, too")
	flags.BoolVar(&plan, "plan", false, "pull nothing; print what would be pulled and its size")
	flags.BoolVar(&failFast, "fail-fast", false, "cancel all other images when one fails")
	pullFlags(cmd, &each, &retries)
	credentialsFlag(f, cmd)
	cmd.MarkFlagFilename("file", "yaml", "yml")
	cmd.MarkFlagFilename("env-file")
	cmd.MarkFlagDirname("project-directory")
	return cmd
}

// tellSkipped says which services have no image to pull.
func tellSkipped(f *command.Flags, skipped []puller.Skipped, errs io.Writer) {
	for _, s := range skipped {
		if !f.Quiet {
			fmt.Fprintln(errs, "towline: "+render.SafeText(fmt.Sprintf("service %s is skipped: %s", s.Service, s.Reason)))
		}
	}
}

func imagesOf(requests puller.Images) (images []string) {
	for _, r := range requests {
		images = append(images, r.Image)
	}
	return images
}

// composeFlags need a Compose file.
var composeFlags = []string{"profile", "env-file", "project-directory", "project-name", "ignore-buildable", "include-deps"}

// prewarmRequest asks for the images that the command line names and those of the
// Compose files, each once. Without -f, a Compose file is read where no argument is
// given, or one that may be a service's name.
func prewarmRequest(f *command.Flags, cmd *cobra.Command, args []string, source compose.Source) (r compose.Project, err error) {
	usage := func(format string, a ...any) error { return exit.Usage(fmt.Errorf(format, a...), cmd.CommandPath()) }
	named := len(source.Files) > 0
	rest := args
	if named || len(args) == 0 || slices.ContainsFunc(args, mayBeService) {
		defer command.RedirectWarnings(cmd.ErrOrStderr(), f.Quiet)()
		source.Names = args
		r, err = compose.Load(cmd.Context(), source)
		switch {
		case errors.Is(err, compose.ErrNoFile) && len(args) == 0:
			return r, usage("IMAGE is missing: name images, or a Compose file with -f; this directory and those above have no compose.yaml")
		case errors.Is(err, compose.ErrNoFile):
			named = false
		case err != nil && !named && len(args) > 0:
			return r, fmt.Errorf("%w; an argument with a tag, such as %s:latest, is an image, whatever that file has", err, args[slices.IndexFunc(args, mayBeService)])
		case err != nil:
			return r, err
		default:
			rest = r.Rest
			tellImages(f, rest, cmd.ErrOrStderr())
			if !named && len(args) > 0 && len(rest) == len(args) { // all are images
				r, named = compose.Project{PrewarmRequest: puller.PrewarmRequest{Platform: r.Platform}}, false
			} else {
				named = true
			}
		}
	}
	if !named {
		for _, name := range composeFlags {
			if cmd.Flags().Changed(name) {
				return r, usage("--%s needs a Compose file; name one with -f, or a service of the one that is here", name)
			}
		}
	}
	seen := make(map[puller.PullRequest]bool)
	for _, one := range r.Images {
		seen[one] = true
	}
	var images puller.Images
	for _, image := range rest {
		if one := (puller.PullRequest{Image: command.FullName(image)}); !seen[one] {
			seen[one] = true
			images = append(images, one)
		}
	}
	r.Images = slices.Concat(images, r.Images)
	return r, nil
}

// tellImages says of names that could be services, and are not, that they are images.
func tellImages(f *command.Flags, names []string, errs io.Writer) {
	for _, name := range names {
		if !f.Quiet && mayBeService(name) {
			fmt.Fprintln(errs, "towline: "+render.SafeText(fmt.Sprintf("the Compose file has no service %s; it is taken for the image %s", name, command.FullName(name))))
		}
	}
}

// mayBeService reports whether an argument can be a service's name. With a tag, a digest
// or a path it is an image.
func mayBeService(arg string) bool { return !strings.ContainsAny(arg, ":/@") }

// Prewarm pulls the images as one job and follows it to its end. buildable are services
// by the images that they can build: see built. When ctx ends, it cancels the job.
func Prewarm(ctx context.Context, f *command.Flags, c *client.Client, r puller.PrewarmRequest, buildable map[string]string, d render.Display, errs io.Writer) error {
	submit := func(ctx context.Context) (puller.Job, error) { return c.Prewarm(ctx, client.PrewarmOf(r)) }
	show, end := f.ShowPrewarm(ctx, c, d)
	err := follow.Job(ctx, c, submit, show)
	end()
	if ctx.Err() != nil {
		return follow.Interrupted(errs, err)
	}
	err = built(err, buildable, errs)
	exit.PrintFailures(errs, err)
	return err
}
