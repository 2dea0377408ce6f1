package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

// printPlan says what a prewarm would pull. Images that can't be had are an
// error, as they would be then.
func (f *flags) printPlan(ctx context.Context, c *client.Client, r puller.PrewarmRequest, out, errs io.Writer) error {
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
		if err := newJSON(out).Encode(plan); err != nil {
			return err
		}
	case !f.quiet:
		if err := writePlan(out, plan); err != nil {
			return err
		}
	}
	e := &incomplete{images: len(plan.Images)}
	for _, i := range plan.Images {
		if i.Error != nil {
			e.failed = append(e.failed, puller.ImageState{Image: i.Image, Error: i.Error})
		}
	}
	if len(e.failed) == 0 {
		return nil
	}
	report(errs, e)
	return planFault{e}
}

// planFault is a plan with images that would not come.
type planFault struct{ e *incomplete }

func (f planFault) Error() string {
	return fmt.Sprintf("%d of %s would fail as it stands", len(f.e.failed), count(f.e.images, "image"))
}

func (f planFault) Unwrap() error { return f.e.Unwrap() }

// writePlan writes a plan as a table, and what it comes to.
func writePlan(out io.Writer, p puller.Plan) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSTATUS\tSIZE\tFETCH\tNOTE")
	for _, i := range p.Images {
		size, fetch := "-", "-"
		switch {
		case i.Weight != nil:
			size, fetch = bytesOf(i.Size), bytesOf(i.Fetch)
		case i.Status != puller.StatusPresent && (i.Error == nil || i.Error.Retryable):
			size, fetch = "?", "?"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(i.Image), printable(string(i.Status)), size, fetch, printable(planNote(i)))
	}
	for _, s := range p.Skipped {
		fmt.Fprintf(w, "service %s\tskipped\t-\t-\t%s\n", printable(s.Service), printable(s.Reason))
	}
	fmt.Fprintln(w)
	atLeast := ""
	if !p.Complete {
		atLeast = "at least "
	}
	fmt.Fprintf(w, "to fetch\t%s%s\n", atLeast, bytesOf(p.Fetch))
	fmt.Fprintf(w, "shared by several\t%s\n", bytesOf(p.Shared))
	fmt.Fprintf(w, "on the engine\t%s\n", bytesOf(p.Present))
	if p.EngineFree != nil {
		fmt.Fprintf(w, "free on its disk\t%s\n", bytesOf(*p.EngineFree))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range p.Notes {
		fmt.Fprintf(out, "warning: %s\n", printable(note))
	}
	return nil
}

// planNote says of one image what has no column.
func planNote(i puller.PlannedImage) string {
	var notes []string
	if i.Error != nil {
		notes = append(notes, string(i.Error.Kind))
	}
	if w := i.Weight; w != nil {
		if w.LayersPresent > 0 {
			notes = append(notes, fmt.Sprintf("%d of %s there", w.LayersPresent, count(w.Layers, "layer")))
		}
		if w.LayersShared > 0 {
			notes = append(notes, fmt.Sprintf("%d shared with images above", w.LayersShared))
		}
	}
	if i.Platform != "" {
		notes = append(notes, i.Platform)
	}
	return strings.Join(slices.Compact(notes), ", ")
}
