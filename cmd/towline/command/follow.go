package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/follow"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// Follow shows a job to its end. An interrupt does not cancel the job.
func (f *Flags) Follow(ctx context.Context, cmd *cobra.Command, c *client.Client, id string) error {
	job, err := c.Job(ctx, id)
	if err != nil {
		return err
	}
	d := f.Display(cmd.OutOrStdout())
	show, end := d.Show, d.Close
	if job.Kind == puller.JobPrewarm {
		show, end = f.ShowPrewarm(ctx, c, d)
	}
	err = follow.Watch(ctx, c, &job, show)
	end()
	exit.PrintFailures(cmd.ErrOrStderr(), err)
	return err
}

// ShowPrewarm returns what shows the events of a prewarm, and what is called after its
// last one.
func (f *Flags) ShowPrewarm(ctx context.Context, c *client.Client, d render.Display) (show func(*puller.Job, puller.Event), end func()) {
	if f.JSON { // the events of one job
		return d.Show, d.Close
	}
	w := &follow.Children{Client: c, Display: d, Progress: !f.Quiet}
	return w.Show(ctx), w.Close
}
