package main

import (
	"context"
	"fmt"
	"io"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// printPlan prints what a prewarm would pull. Images that would fail are an error,
// as they are in a prewarm, but those that services can build.
func (f *flags) printPlan(ctx context.Context, c *client.Client, r puller.PrewarmRequest, buildable map[string]string, out, errs io.Writer) error {
	plan := puller.Plan{Images: []puller.PlannedImage{}, Complete: true}
	if len(r.Images) > 0 {
		var err error
		if plan, err = c.Plan(ctx, r); err != nil {
			return err
		}
	}
	plan.Skipped = r.Skipped // they were not sent
	switch {
	case f.json:
		if err := render.NewJSON(out).Encode(plan); err != nil {
			return err
		}
	case !f.quiet:
		if err := render.Plan(out, plan); err != nil {
			return err
		}
	}
	e := &incomplete{images: len(plan.Images)}
	for _, i := range plan.Images {
		if i.Error != nil && !mayBeBuilt(puller.ImageState{Image: i.Image, Error: i.Error}, buildable) {
			e.failed = append(e.failed, puller.ImageState{Image: i.Image, Error: i.Error})
		}
	}
	if len(e.failed) == 0 {
		return nil
	}
	printFailures(errs, e)
	return planError{e}
}

// planError is a plan with images that would fail.
type planError struct{ e *incomplete }

func (p planError) Error() string {
	return fmt.Sprintf("%d of %s would fail", len(p.e.failed), render.Count(p.e.images, "image"))
}

func (p planError) Unwrap() error { return p.e.Unwrap() }
