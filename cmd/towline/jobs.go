package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

func newJobs(f *command.Flags) *cobra.Command {
	var filter puller.Filter
	var all bool
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List jobs, newest first",
		Long: "List jobs, newest first. The pulls of a prewarm are counted in its own line, unless\n" +
			"--all, --kind or --image asks for them.",
		Example: "  towline jobs ls --state active\n" +
			"  towline jobs ls --kind pull --image alpine:3.20",
		Args: command.NoArguments,
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			return listJobs(ctx, f, cmd, c, filter, all)
		}),
	}
	ls.Flags().StringVar((*string)(&filter.State), "state", "", "only jobs in this `state`: queued, active, succeeded, failed or canceled")
	ls.Flags().StringVar((*string)(&filter.Kind), "kind", "", "only jobs of this `kind`: pull, run or prewarm")
	ls.Flags().StringVar(&filter.Image, "image", "", "only jobs of this `image`")
	ls.Flags().IntVar(&filter.Limit, "limit", 0, "list at most so many, up to 1000 (default 100)")
	ls.Flags().BoolVarP(&all, "all", "a", false, "list the pulls of prewarms, too")

	show := &cobra.Command{
		Use:               "show JOB",
		ValidArgsFunction: completeJobs(f, false),
		Short:             "Print a job as JSON",
		Example:           "  towline jobs show 01J9Z7M3S4W5X6Y7Z8A9B0C1D2",
		Args:              command.OneArgument("JOB"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := c.Job(ctx, args[0])
			if err != nil {
				return err
			}
			e := render.NewJSON(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(job)
		}),
	}
	events := &cobra.Command{
		Use:               "events JOB",
		ValidArgsFunction: completeJobs(f, false),
		Short:             "Follow a job to its end",
		Example: "  towline jobs events 01J9Z7M3S4W5X6Y7Z8A9B0C1D2\n" +
			"  towline jobs events 01J9Z7M3S4W5X6Y7Z8A9B0C1D2 --json",
		Long: "Show all events of a job, and follow it to its end. The exit code is that of the\n" +
			"job. Ctrl-C does not cancel the job.",
		Args: command.OneArgument("JOB"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			return f.Follow(ctx, cmd, c, args[0])
		}),
	}
	cancel := &cobra.Command{
		Use:               "cancel JOB...",
		ValidArgsFunction: completeJobs(f, true),
		Short:             "Cancel jobs",
		Example:           "  towline jobs cancel 01J9Z7M3S4W5X6Y7Z8A9B0C1D2",
		Args:              command.SomeArguments("JOB"),
		RunE: command.WithClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			for _, id := range args {
				job, err := c.Cancel(ctx, id)
				if err != nil {
					return err
				}
				if !f.Quiet {
					fmt.Fprintln(cmd.OutOrStdout(), render.SafeText(fmt.Sprintf("%s: %s", job.ID, job.State)))
				}
			}
			return nil
		}),
	}
	jobs := &cobra.Command{
		Use:   "jobs",
		Short: "List, show, follow and cancel jobs",
		Example: "  towline jobs\n" +
			"  towline jobs events 01J9Z7M3S4W5X6Y7Z8A9B0C1D2",
		Args: command.NoArguments,
		RunE: ls.RunE,
	}
	jobs.Flags().AddFlagSet(ls.Flags())
	jobs.AddCommand(ls, show, events, cancel)
	return jobs
}

func listJobs(ctx context.Context, f *command.Flags, cmd *cobra.Command, c *client.Client, filter puller.Filter, all bool) error {
	list := c.Jobs
	if !all && !f.JSON && filter.Kind == "" && filter.Image == "" {
		list = func(ctx context.Context, filter puller.Filter) ([]puller.Job, string, error) {
			return withoutChildren(ctx, c, filter)
		}
	}
	jobs, next, err := list(ctx, filter)
	if err != nil {
		return err
	}
	return command.PrintPage(cmd, f, "jobs", jobs, next, render.Jobs)
}

// withoutChildren returns jobs that are no part of a prewarm: as many as the filter's
// limit, 100 if it has none. It reads at most foldPages pages to find them.
func withoutChildren(ctx context.Context, c *client.Client, f puller.Filter) (jobs []puller.Job, next string, err error) {
	const foldPages = 20
	limit := f.Limit
	if limit == 0 {
		limit = 100
	}
	for range foldPages {
		var page []puller.Job
		if page, next, err = c.Jobs(ctx, f); err != nil {
			return nil, "", err
		}
		for i, j := range page {
			if j.Parent == "" {
				jobs = append(jobs, j)
			}
			if len(jobs) == limit && i+1 < len(page) {
				return jobs, j.ID, nil
			}
		}
		if next == "" || len(jobs) >= limit {
			break
		}
		f.Cursor, f.Limit = next, 1000
	}
	return jobs, next, nil
}

// completeJobs completes the IDs of jobs, or only of those that have not ended.
func completeJobs(f *command.Flags, running bool) cobra.CompletionFunc {
	return command.Complete(f, func(ctx context.Context, c *client.Client) (ids []string) {
		jobs, _, _ := c.Jobs(ctx, puller.Filter{})
		for _, j := range jobs {
			if running && j.State.Ended() {
				continue
			}
			subject := j.Image
			if subject == "" {
				subject = string(j.Kind)
			}
			ids = append(ids, cobra.CompletionWithDesc(j.ID, render.SafeText(subject+", "+string(j.State))))
		}
		return ids
	})
}
