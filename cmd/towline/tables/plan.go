package tables

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// Plan writes a plan as a table, with its sums and warnings.
func Plan(out io.Writer, p puller.Plan) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSTATUS\tSIZE\tDOWNLOAD\tNOTE")
	for _, i := range p.Images {
		size, fetch := "-", "-"
		switch {
		case i.Weight != nil:
			size, fetch = render.Size(i.Size), render.Size(i.Fetch)
		case i.Status != puller.StatusPresent && (i.Error == nil || i.Error.Retryable):
			size, fetch = "?", "?"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", render.SafeText(i.Image), render.SafeText(string(i.Status)), size, fetch, render.SafeText(planNote(i)))
	}
	for _, s := range p.Skipped {
		fmt.Fprintf(w, "service %s\tskipped\t-\t-\t%s\n", render.SafeText(s.Service), render.SafeText(s.Reason))
	}
	fmt.Fprintln(w)
	switch {
	case p.Complete:
		fmt.Fprintf(w, "to download\t%s\n", render.Size(p.Fetch))
	case p.Fetch > 0:
		fmt.Fprintf(w, "to download\tat least %s\n", render.Size(p.Fetch))
	default:
		fmt.Fprintf(w, "to download\tunknown\n")
	}
	fmt.Fprintf(w, "shared by several images\t%s\n", render.Size(p.Shared))
	fmt.Fprintf(w, "already on the engine\t%s\n", render.Size(p.Present))
	if p.EngineFree != nil {
		fmt.Fprintf(w, "free on the engine's disk\t%s\n", render.Size(*p.EngineFree))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range p.Notes {
		fmt.Fprintf(out, "warning: %s\n", render.SafeText(note))
	}
	return nil
}

// planNote returns what the table has no column for.
func planNote(i puller.PlannedImage) string {
	var notes []string
	if i.Error != nil {
		notes = append(notes, string(i.Error.Kind))
	} else if i.Weight == nil && i.Status != puller.StatusPresent {
		notes = append(notes, "size unknown")
	}
	if w := i.Weight; w != nil {
		if w.LayersPresent > 0 {
			notes = append(notes, fmt.Sprintf("%d of %s present", w.LayersPresent, render.Count(w.Layers, "layer")))
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
