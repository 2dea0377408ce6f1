package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

func newJobs(f *flags) *cobra.Command {
	var filter puller.Filter
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List jobs, newest first",
		Args:  usage(cobra.NoArgs),
		RunE: withClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, _ []string) error {
			return listJobs(ctx, cmd, c, filter, f.json)
		}),
	}
	ls.Flags().StringVar((*string)(&filter.State), "state", "", "only jobs in this `state`")
	ls.Flags().StringVar((*string)(&filter.Kind), "kind", "", "only jobs of this `kind`: pull, run or prewarm")
	ls.Flags().StringVar(&filter.Image, "image", "", "only jobs for this `image`")
	ls.Flags().IntVar(&filter.Limit, "limit", 0, "at most so many (default 100)")

	show := &cobra.Command{
		Use:   "show JOB",
		Short: "Print a job as it stands",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: withClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := c.Job(ctx, args[0])
			if err != nil {
				return err
			}
			return printJob(cmd, job)
		}),
	}
	events := &cobra.Command{
		Use:   "events JOB",
		Short: "Follow a job to its end; the exit code is the job's",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: withClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			return f.followJob(ctx, cmd, c, args[0])
		}),
	}
	cancel := &cobra.Command{
		Use:   "cancel JOB...",
		Short: "Cancel jobs",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: withClient(f, func(ctx context.Context, cmd *cobra.Command, c *client.Client, args []string) error {
			for _, id := range args {
				job, err := c.Cancel(ctx, id)
				if err != nil {
					return err
				}
				if !f.quiet {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", printable(job.ID), printable(string(job.State)))
				}
			}
			return nil
		}),
	}
	jobs := &cobra.Command{
		Use:   "jobs",
		Short: "List, show, follow and cancel jobs",
		Args:  usage(cobra.NoArgs),
		RunE:  ls.RunE,
	}
	jobs.AddCommand(ls, show, events, cancel)
	return jobs
}

// withClient gives a command the daemon's client, and a context that ends with
// Ctrl-C.
func withClient(f *flags, run func(context.Context, *cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := f.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return run(ctx, cmd, c, args)
	}
}

func listJobs(ctx context.Context, cmd *cobra.Command, c *client.Client, f puller.Filter, asJSON bool) error {
	jobs, next, err := c.Jobs(ctx, f)
	if err != nil {
		return err
	}
	if asJSON {
		return newJSON(cmd.OutOrStdout()).Encode(map[string]any{"jobs": jobs, "next": next})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tSTATE\tAGE\tIMAGE\tRESULT")
	for _, j := range jobs {
		state, result := string(j.State), ""
		if j.Phase != "" {
			state = string(j.Phase)
		}
		image := j.Image
		if j.Kind == puller.JobPrewarm {
			image = count(len(j.Children), "image")
		}
		switch {
		case j.Error != nil:
			result = string(j.Error.Kind)
		case j.Result != nil && j.Kind == puller.JobPrewarm:
			result = "downloaded " + bytesOf(j.Result.Downloaded)
		case j.Result != nil && j.Kind == puller.JobRun:
			result = describeEnd(j)
		case j.Result != nil:
			result = string(j.Result.Source)
		case j.Progress != nil:
			result = describeTotals(*j.Progress)
		}
		age := time.Since(j.CreatedAt).Round(time.Second)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(j.ID), printable(state), age, printable(image), printable(result))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "There are more: --limit shows up to 1000.\n")
	}
	return nil
}

func printJob(cmd *cobra.Command, j puller.Job) error {
	e := newJSON(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(j)
}

// followJob shows a job to its end. Leaving it does not cancel it.
func (f *flags) followJob(ctx context.Context, cmd *cobra.Command, c *client.Client, id string) error {
	job, err := c.Job(ctx, id)
	if err != nil {
		return err
	}
	d := f.display(cmd.OutOrStdout(), job.Kind)
	err = watch(ctx, c, &job, d.show)
	d.end()
	report(cmd.ErrOrStderr(), err)
	return err
}
