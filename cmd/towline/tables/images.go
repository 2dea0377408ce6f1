package tables

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// Images writes images as a table. Their ages are as of now.
func Images(out io.Writer, images []keep.Image, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSIZE\tFREES\tOWNER\tUSED\tSTAYS FOR")
	for _, i := range images {
		frees := "unknown"
		if i.Unique != nil {
			frees = render.Size(*i.Unique)
		}
		used := "never seen"
		if !i.UsedAt.IsZero() {
			used = Ago(now.Sub(i.UsedAt))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", render.SafeText(nameOfImage(i.ID, i.Names)), render.Size(i.Size), frees, render.SafeText(string(i.Owner)), used, render.SafeText(reasons(i.Kept)))
	}
	return w.Flush()
}

// Changes writes what has become of images as a table.
func Changes(out io.Writer, changes []puller.Event) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tIMAGE\tWHAT\tSIZE\tFREED\tFOR")
	for _, e := range changes {
		c := e.Image
		if c == nil {
			continue
		}
		size, freed, reason := "", "", c.Why
		if c.Size > 0 {
			size = render.Size(c.Size)
		}
		if c.Freed != nil {
			freed = render.Size(*c.Freed)
		}
		if c.Set != "" {
			reason = "set " + c.Set
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Time.UTC().Format(time.RFC3339), render.SafeText(nameOfImage(c.ID, c.Names)), render.SafeText(string(c.Action)), size, freed, render.SafeText(reason))
	}
	return w.Flush()
}

// Collection writes what a collection did, or would do.
func Collection(out io.Writer, c keep.Collection) error {
	removed := "removed"
	if c.DryRun {
		removed = "would be removed"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range c.Removed {
		freed := ""
		if r.Freed != nil {
			freed = render.Size(*r.Freed)
		}
		fmt.Fprintf(w, "%s\t%s\t%s (%s)\n", render.SafeText(nameOfImage(r.ID, r.Names)), freed, removed, render.SafeText(r.Why))
	}
	for _, s := range c.Stayed {
		fmt.Fprintf(w, "%s\t%s\tstays (%s)\n", render.SafeText(nameOfImage(s.ID, s.Names)), render.Size(s.Size), render.SafeText(reasons(s.Kept)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	summary := render.Count(len(c.Removed), "image") + " " + removed
	if c.Before != nil && c.After != nil {
		summary += fmt.Sprintf("; the disk has %s free of %s, and had %s", render.Size(c.After.Free), render.Size(c.After.Total), render.Size(c.Before.Free))
		if c.DryRun {
			summary = strings.Replace(summary, "has", "would have", 1)
			summary = strings.Replace(summary, "and had", "and has", 1)
		}
	}
	_, err := fmt.Fprintln(out, summary)
	if err == nil && c.Blocked != "" {
		_, err = fmt.Fprintln(out, render.SafeText(c.Blocked))
	}
	return err
}

// nameOfImage returns an image's first name, or its ID if it has none.
func nameOfImage(id string, names []string) string {
	if len(names) == 0 {
		return puller.ClipTo(id, 19)
	}
	return names[0]
}

// reasons writes why an image stays.
func reasons(kept []keep.Kept) string {
	var words []string
	for _, k := range kept {
		word := strings.ReplaceAll(string(k.Reason), "_", " ")
		if k.Detail != "" {
			word += ": " + k.Detail
		}
		words = append(words, word)
	}
	const most = 3
	if more := len(words) - most; more > 0 {
		words = append(words[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}

// Ago writes a time that has passed, in its largest unit.
func Ago(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days ago", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours ago", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes ago", d/time.Minute)
	}
	return "just now"
}
