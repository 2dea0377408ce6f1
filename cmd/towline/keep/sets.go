// Package keep has the commands for what stays on the host: sets, leases, images and
// their collection.
package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/setfile"
)

// NewSets returns the command sets.
func NewSets(f *command.Flags) *cobra.Command {
	ls := &cobra.Command{
		Use:     "ls",
		Short:   "List sets",
		Example: "  towline sets ls --json",
		Args:    command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			return listSets(ctx, f, cmd, c)
		}),
	}
	show := &cobra.Command{
		Use:               "show NAME",
		ValidArgsFunction: completeSets(f),
		Short:             "Show how the images of a set stand",
		Example:           "  towline sets show base",
		Args:              command.OneArgument("NAME"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			s, err := c.Sets().Get(ctx, args[0])
			if err != nil {
				return err
			}
			return printSet(f, cmd.OutOrStdout(), s)
		}),
	}
	refresh := &cobra.Command{
		Use:               "refresh NAME",
		ValidArgsFunction: completeSets(f),
		Short:             "Refresh a set now, and follow it to its end",
		Example:           "  towline sets refresh base",
		Long: "Refresh a set now, and follow it to its end. If it is being refreshed, that job is\n" +
			"followed. Ctrl-C does not cancel it.",
		Args: command.OneArgument("NAME"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := c.Sets().Refresh(ctx, args[0])
			if err != nil {
				return err
			}
			return f.Follow(ctx, cmd, c, job.ID)
		}),
	}
	rm := &cobra.Command{
		Use:               "rm NAME...",
		ValidArgsFunction: completeSets(f),
		Short:             "Forget sets; their images stay",
		Example:           "  towline sets rm base",
		Args:              command.SomeArguments("NAME"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			for _, name := range args {
				if _, err := c.Sets().Delete(ctx, name); err != nil {
					return err
				}
				if !f.Quiet {
					fmt.Fprintln(cmd.OutOrStdout(), render.SafeText(name+": forgotten"))
				}
			}
			return nil
		}),
	}
	all := &cobra.Command{
		Use:   "sets",
		Short: "Keep images on the host: list, show, apply, refresh and forget sets",
		Example: "  towline sets apply base redis:7 postgres:17 --schedule '0 5 * * *'\n" +
			"  towline sets",
		Long: "A set is a named list of images that the host always has: Towline pulls what is\n" +
			"missing, refreshes what has changed in its registry by a schedule, and does not\n" +
			"collect it.",
		Args: command.NoArguments,
		RunE: ls.RunE,
	}
	all.AddCommand(ls, show, newApply(f), refresh, rm)
	return all
}

func listSets(ctx context.Context, f *command.Flags, cmd *cobra.Command, c *client.Client) error {
	all, faults, err := c.Sets().List(ctx)
	if err != nil {
		return err
	}
	if f.JSON {
		return render.NewJSON(cmd.OutOrStdout()).Encode(map[string]any{"sets": all, "faults": faults})
	}
	for _, fault := range faults {
		fmt.Fprintln(cmd.ErrOrStderr(), "towline: "+render.SafeText(fault.File+": "+fault.Error))
	}
	return tables.Sets(cmd.OutOrStdout(), all, time.Now())
}

func printSet(f *command.Flags, out io.Writer, s keep.Set) error {
	switch {
	case f.JSON:
		return render.NewJSON(out).Encode(s)
	case f.Quiet:
		return nil
	}
	return tables.Set(out, s, time.Now())
}

func newApply(f *command.Flags) *cobra.Command {
	var file string
	var r keep.SetRequest
	var unprotected bool
	apply := &cobra.Command{
		Use:   "apply {-f FILE [NAME] | NAME IMAGE...}",
		Short: "Make or replace a set",
		Long: "Make or replace a set, and have its images pulled.\n\n" +
			"FILE is a Compose file, with the section x-towline for what is not in one, or a list:\n" +
			"{name, images, schedule, timezone, jitter, window, policy, protect, priority,\n" +
			"platform}. Flags override it. The set has the name that is given, that of the file's\n" +
			"name field, or that of the file.",
		Example: "  towline sets apply base redis:7 postgres:17 --schedule '0 5 * * *'\n" +
			"  towline sets apply -f compose.yaml shop --window 22:00-06:00 --timezone UTC",
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			usage := func(text string) error { return exit.Usage(errors.New(text), cmd.CommandPath()) }
			wanted := setfile.File{}
			switch {
			case file != "" && len(args) > 1:
				return usage("IMAGE: those of a set with -f are in its file")
			case file == "" && len(args) == 0:
				return usage("NAME is missing")
			case file == "" && len(args) == 1:
				return usage("IMAGE is missing: name images, or a file with -f")
			case file != "":
				listed, err := command.ReadSet(ctx, f, cmd, file, &wanted, &wanted.Profiles)
				if err != nil {
					return err
				}
				if listed != nil {
					wanted.Images, wanted.Platform = listed.Images, cmp.Or(wanted.Platform, listed.Platform)
				}
				wanted.Name = cmp.Or(wanted.Name, setfile.NameOf(file))
			default:
				for _, image := range args[1:] {
					wanted.Images = append(wanted.Images, puller.PullRequest{Image: command.FullName(image)})
				}
			}
			if len(args) > 0 {
				wanted.Name = args[0]
			}
			override(&wanted.SetRequest, r)
			if unprotected {
				wanted.Protect = new(false)
			}
			s, err := c.Sets().Put(ctx, wanted.Name, client.SetOf(wanted.SetRequest))
			if err != nil {
				return err
			}
			return printSet(f, cmd.OutOrStdout(), s)
		}),
	}
	flags := apply.Flags()
	flags.StringVarP(&file, "file", "f", "", "`file` of the set, or - for the standard input")
	flags.StringVar(&r.Schedule, "schedule", "", "when it is refreshed: five fields of cron, @daily or '@every 30m'")
	flags.StringVar(&r.Timezone, "timezone", "", "time `zone` of schedule and window, such as Europe/Berlin (default: the daemon's)")
	flags.StringVar(&r.Jitter, "jitter", "", "refresh later by a part of this `time`, which is always the same on a host")
	flags.StringVar(&r.Window, "window", "", "when refreshes may begin, such as 22:00-06:00")
	flags.StringVar((*string)(&r.Policy), "policy", "", "pull `policy`: newer or missing (default newer)")
	flags.StringVar((*string)(&r.Priority), "priority", "", "job `priority`: high, normal or low (default low)")
	flags.StringVar(&r.Platform, "platform", "", "`os/arch[/variant]` of images that name none")
	flags.BoolVar(&unprotected, "no-protect", false, "let the images be collected")
	apply.MarkFlagFilename("file", "yaml", "yml")
	return apply
}

// override sets what flags have set.
func override(r *keep.SetRequest, by keep.SetRequest) {
	r.Schedule, r.Timezone = cmp.Or(by.Schedule, r.Schedule), cmp.Or(by.Timezone, r.Timezone)
	r.Jitter, r.Window = cmp.Or(by.Jitter, r.Jitter), cmp.Or(by.Window, r.Window)
	r.Policy, r.Priority, r.Platform = cmp.Or(by.Policy, r.Policy), cmp.Or(by.Priority, r.Priority), cmp.Or(by.Platform, r.Platform)
}

// completeSets completes the names of sets.
func completeSets(f *command.Flags) cobra.CompletionFunc {
	return command.Complete(f, func(ctx context.Context, c *client.Client) (names []string) {
		sets, _, _ := c.Sets().List(ctx)
		for _, s := range sets {
			names = append(names, s.Name)
		}
		return names
	})
}
