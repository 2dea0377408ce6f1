package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

func newPrewarm(f *flags) *cobra.Command {
	var each puller.PullRequest
	var retries int
	var source compose.Source
	var failFast, plan bool
	cmd := &cobra.Command{
		Use:   "prewarm [-f FILE]... [IMAGE...]",
		Short: "Pull many images as one job, also those of Compose files",
		Long: "Pull many images as one job: the images that are named, and those of Compose\n" +
			"files.\n\n" +
			"Compose files are read as docker compose reads them: with the variables of the\n" +
			"environment and of .env, with include, extends and profiles. Several files are\n" +
			"merged. Without an image and without -f, the files are those of COMPOSE_FILE, or\n" +
			"the compose.yaml of this directory or of one above. Services that are built\n" +
			"are skipped. A warning names each variable without a value, also with --quiet.",
		Example: "  towline prewarm -f compose.yaml\n" +
			"  towline prewarm --plan -f compose.yaml -f compose.ci.yaml",
		RunE: func(cmd *cobra.Command, images []string) error {
			errs := cmd.ErrOrStderr()
			r, err := f.prewarmRequest(cmd, images, source)
			if err != nil {
				return err
			}
			if each.Platform != "" {
				r.Platform = each.Platform
			}
			r.Policy, r.Strict, r.Priority, r.Timeout, r.FailFast = each.Policy, each.Strict, each.Priority, each.Timeout, failFast
			r.Accelerate = each.Accelerate
			if cmd.Flags().Changed("retries") {
				r.Retries = &retries
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			// Not earlier: a signal ends the program while it reads the standard input.
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			names := make([]string, len(r.Images))
			for i, one := range r.Images {
				names[i] = one.Image
			}
			r.Logins = f.logins(ctx, names, errs)
			if plan {
				return f.printPlan(ctx, c, r, cmd.OutOrStdout(), errs)
			}
			if !f.quiet {
				for _, s := range r.Skipped {
					fmt.Fprintln(errs, "towline: "+render.SafeText(fmt.Sprintf("service %s is skipped: %s", s.Service, s.Reason)))
				}
				if len(r.Images) == 0 {
					fmt.Fprintln(errs, "towline: no image is left to pull")
				}
			}
			if len(r.Images) == 0 {
				return nil
			}
			return f.prewarm(ctx, c, r, f.display(cmd.OutOrStdout()), errs)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&source.Files, "file", "f", nil, "Compose `file`, or - for the standard input; repeat it for several")
	flags.StringArrayVar(&source.Profiles, "profile", nil, "Compose `profile` to include; repeat it for several")
	flags.StringArrayVar(&source.EnvFiles, "env-file", nil, "`file` of variables, instead of .env; repeat it for several")
	flags.StringVar(&source.Directory, "project-directory", "", "`directory` of the project (default: that of the first file)")
	flags.StringVarP(&source.Name, "project-name", "p", "", "`name` of the project")
	flags.BoolVar(&plan, "plan", false, "pull nothing; print what would be pulled and its size")
	flags.BoolVar(&failFast, "fail-fast", false, "cancel all other images when one fails")
	pullFlags(cmd, &each, &retries)
	credentialsFlag(f, cmd)
	cmd.MarkFlagFilename("file", "yaml", "yml")
	cmd.MarkFlagFilename("env-file")
	cmd.MarkFlagDirname("project-directory")
	return cmd
}

// composeFlags need a Compose file.
var composeFlags = []string{"profile", "env-file", "project-directory", "project-name"}

// prewarmRequest asks for the images that the command line names and those of the
// Compose files, each once.
func (f *flags) prewarmRequest(cmd *cobra.Command, images []string, source compose.Source) (r puller.PrewarmRequest, err error) {
	if len(source.Files) > 0 || len(images) == 0 {
		defer redirectWarnings(cmd.ErrOrStderr(), f.quiet)()
		r, err = compose.Load(cmd.Context(), source)
		if errors.Is(err, compose.ErrNoFile) {
			return r, usageError{errors.New("IMAGE is missing: name images, or a Compose file with -f; this directory and those above have no compose.yaml"), cmd.CommandPath()}
		}
		if err != nil {
			return r, err
		}
	} else {
		for _, name := range composeFlags {
			if cmd.Flags().Changed(name) {
				return r, usageError{fmt.Errorf("--%s needs a Compose file; name one with -f", name), cmd.CommandPath()}
			}
		}
	}
	seen := make(map[puller.PullRequest]bool)
	for _, one := range r.Images {
		seen[one] = true
	}
	var named puller.Images
	for _, image := range images {
		if one := (puller.PullRequest{Image: fullName(image)}); !seen[one] {
			seen[one] = true
			named = append(named, one)
		}
	}
	r.Images = slices.Concat(named, r.Images)
	return r, nil
}

// prewarm pulls the images as one job and follows it to its end. When ctx ends,
// it cancels the job.
func (f *flags) prewarm(ctx context.Context, c *client.Client, r puller.PrewarmRequest, d render.Display, errs io.Writer) error {
	submit := func(ctx context.Context) (puller.Job, error) { return c.Prewarm(ctx, r) }
	show, end := f.showPrewarm(ctx, c, d)
	err := follow(ctx, c, submit, show)
	end()
	if ctx.Err() != nil {
		return interrupted(errs, err)
	}
	printFailures(errs, err)
	return err
}

// showPrewarm returns what shows the events of a prewarm, and what is called after its
// last one.
func (f *flags) showPrewarm(ctx context.Context, c *client.Client, d render.Display) (show func(*puller.Job, puller.Event), end func()) {
	if f.json { // the events of one job
		return d.Show, d.Close
	}
	w := &children{client: c, display: d, follow: !f.quiet}
	return w.show(ctx), w.close
}
