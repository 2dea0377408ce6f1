package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

func newPrewarm(f *flags) *cobra.Command {
	var each puller.PullRequest
	var retries int
	var source compose.Source
	var failFast, plan bool
	cmd := &cobra.Command{
		Use:   "prewarm [-f FILE]... [IMAGE...]",
		Short: "Pull many images as one job: those named, and those of Compose files",
		Long: "Pull many images as one job: those named, and those of Compose files.\n\n" +
			"Compose files are read here, as docker compose reads them: with the variables\n" +
			"of this process and of .env, include, extends and profiles; several are merged.\n" +
			"With neither an image nor -f it is the compose.yaml of this directory or above,\n" +
			"or what COMPOSE_FILE names. Services that are built are skipped. A variable\n" +
			"that has no value is warned of, with --quiet too.",
		RunE: func(cmd *cobra.Command, images []string) error {
			errs := cmd.ErrOrStderr()
			r, err := f.wanted(cmd, images, source)
			if err != nil {
				return err
			}
			if each.Platform != "" {
				r.Platform = each.Platform
			}
			r.Policy, r.Strict, r.Priority, r.Timeout, r.FailFast = each.Policy, each.Strict, each.Priority, each.Timeout, failFast
			if cmd.Flags().Changed("retries") {
				r.Retries = &retries
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			// Only from here on: reading the standard input is not interrupted.
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if plan {
				return f.printPlan(ctx, c, r, cmd.OutOrStdout(), errs)
			}
			if !f.quiet {
				for _, s := range r.Skipped {
					fmt.Fprintf(errs, "towline: service %s is skipped: %s\n", printable(s.Service), printable(s.Reason))
				}
				if len(r.Images) == 0 {
					fmt.Fprintln(errs, "towline: nothing is left to pull")
				}
			}
			if len(r.Images) == 0 {
				return nil
			}
			return prewarm(ctx, c, r, f.display(cmd.OutOrStdout(), puller.JobPrewarm), errs)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&source.Files, "file", "f", nil, "a Compose `file`, - for the standard input; may be given again")
	flags.StringArrayVar(&source.Profiles, "profile", nil, "a Compose `profile` to pull for, too; may be given again")
	flags.StringArrayVar(&source.EnvFiles, "env-file", nil, "a `file` of variables, in place of .env; may be given again")
	flags.StringVar(&source.Directory, "project-directory", "", "the project's `directory`, in place of the first file's")
	flags.StringVarP(&source.Name, "project-name", "p", "", "the project's `name`")
	flags.BoolVar(&plan, "plan", false, "only say what would be pulled, and how much that is")
	flags.BoolVar(&failFast, "fail-fast", false, "cancel the rest when the first image fails")
	pullFlags(cmd, &each, &retries)
	cmd.MarkFlagFilename("file", "yaml", "yml")
	cmd.MarkFlagFilename("env-file")
	cmd.MarkFlagDirname("project-directory")
	return cmd
}

// ofCompose are the flags that say something of a Compose project.
var ofCompose = []string{"profile", "env-file", "project-directory", "project-name"}

// wanted returns the images that a call names, and those of its Compose files.
func (f *flags) wanted(cmd *cobra.Command, images []string, source compose.Source) (r puller.PrewarmRequest, err error) {
	if len(source.Files) > 0 || len(images) == 0 {
		defer warnTo(cmd.ErrOrStderr(), f.quiet)()
		r, err = compose.Load(cmd.Context(), source)
		if errors.Is(err, compose.ErrNoFile) {
			return r, usageError{errors.New("nothing to pull: name images, or a Compose file with -f; there is no compose.yaml here or above"), cmd.CommandPath()}
		}
		if err != nil {
			return r, err
		}
	} else {
		for _, name := range ofCompose {
			if cmd.Flags().Changed(name) {
				return r, usageError{fmt.Errorf("--%s is for a Compose file; name one with -f", name), cmd.CommandPath()}
			}
		}
	}
	seen := make(map[puller.PullRequest]bool)
	for _, one := range r.Images {
		seen[one] = true
	}
	var named puller.Images
	for _, image := range images {
		if full, _, err := puller.ParseImage(image); err == nil {
			image = full // what it is not, the daemon says
		}
		if one := (puller.PullRequest{Image: image}); !seen[one] {
			seen[one] = true
			named = append(named, one)
		}
	}
	r.Images = slices.Concat(named, r.Images)
	return r, nil
}

// warnTo has what compose-go warns of printed as this program prints it, each
// once, until it is taken back. Where the rest is not wanted, it is of variables
// that have no value: they may be why an image is another one.
func warnTo(out io.Writer, quiet bool) (back func()) {
	standard := logrus.StandardLogger()
	before, formatter := standard.Out, standard.Formatter
	standard.SetOutput(out)
	standard.SetFormatter(warning{quiet, make(map[string]bool)})
	return func() {
		standard.SetOutput(before)
		standard.SetFormatter(formatter)
	}
}

type warning struct {
	quiet bool
	said  map[string]bool
}

func (w warning) Format(e *logrus.Entry) ([]byte, error) {
	if w.said[e.Message] || w.quiet && !strings.Contains(e.Message, "variable is not set") {
		return nil, nil
	}
	w.said[e.Message] = true
	return []byte("towline: " + e.Level.String() + ": " + printable(e.Message) + "\n"), nil
}

// prewarm pulls the images as one job and follows it to its end. When ctx ends,
// it cancels it.
func prewarm(ctx context.Context, c *client.Client, r puller.PrewarmRequest, d display, errs io.Writer) error {
	submit := func(ctx context.Context) (puller.Job, error) { return c.Prewarm(ctx, r) }
	err := follow(ctx, c, submit, d.show)
	d.end()
	if ctx.Err() != nil {
		return interrupted(errs, err)
	}
	report(errs, err)
	return err
}
