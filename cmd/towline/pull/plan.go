package pull

import (
	"context"
	"io"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
)

// printPlan prints what a prewarm would pull. Images that would fail are an error,
// as they are in a prewarm, but those that services can build.
func printPlan(ctx context.Context, f *command.Flags, c *client.Client, r puller.PrewarmRequest, buildable map[string]string, out, errs io.Writer) error {
	plan := puller.Plan{Images: []puller.PlannedImage{}, Complete: true}
	if len(r.Images) > 0 {
		var err error
		if plan, err = c.Plan(ctx, client.PrewarmOf(r)); err != nil {
			return err
		}
	}
	plan.Skipped = r.Skipped // they were not sent
	switch {
	case f.JSON:
		if err := render.NewJSON(out).Encode(plan); err != nil {
			return err
		}
	case !f.Quiet:
		if err := tables.Plan(out, plan); err != nil {
			return err
		}
	}
	var failed []puller.ImageState
	for _, i := range plan.Images {
		if s := (puller.ImageState{Image: i.Image, Error: i.Error}); i.Error != nil && !mayBeBuilt(s, buildable) {
			failed = append(failed, s)
		}
	}
	err := exit.OfPlan(len(plan.Images), failed)
	exit.PrintFailures(errs, err)
	return err
}
