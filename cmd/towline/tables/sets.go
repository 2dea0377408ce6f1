package tables

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller/keep"
)

// Sets writes sets as a table. Times are as of now.
func Sets(out io.Writer, sets []keep.Set, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SET\tFROM\tIMAGES\tREFRESHED\tNEXT")
	for _, s := range sets {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", render.SafeText(s.Name), render.SafeText(string(s.Source)), render.SafeText(setCounts(s)), render.SafeText(refreshed(s, now)), nextRun(s.NextRun, now))
	}
	return w.Flush()
}

// Set writes a set with its images. Times are as of now.
func Set(out io.Writer, s keep.Set, now time.Time) error {
	protects := "protected"
	if !s.Protect {
		protects = "may be collected"
	}
	fmt.Fprintf(out, "%s: %s, %s; refreshed: %s; next: %s\n", render.SafeText(s.Name), render.SafeText(setCounts(s)), protects, render.SafeText(refreshed(s, now)), nextRun(s.NextRun, now))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, i := range s.Images {
		name := i.Image
		if i.Platform != "" {
			name += " (" + i.Platform + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", render.SafeText(name), render.SafeText(string(i.State)), render.SafeText(i.Reason))
	}
	for _, k := range s.Skipped {
		fmt.Fprintf(w, "%s\tskipped\t%s\n", render.SafeText("service "+k.Service), render.SafeText(k.Reason))
	}
	return w.Flush()
}

// setCounts writes how many images are in each state.
func setCounts(s keep.Set) string {
	var words []string
	for _, state := range keep.SetStates {
		if n := s.Counts[state]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(words) == 0 {
		return "no image"
	}
	return strings.Join(words, ", ")
}

// refreshed writes when the last refresh of a set was, or why it could not begin.
func refreshed(s keep.Set, now time.Time) string {
	switch {
	case s.Refreshes:
		return "now"
	case s.Error != "":
		return "can't begin: " + s.Error
	case s.LastRun.IsZero():
		return "never"
	}
	return Ago(now.Sub(s.LastRun))
}

func nextRun(at, now time.Time) string {
	if at.IsZero() {
		return "when an image is missing"
	}
	return "in " + Left(at.Sub(now))
}

// Left writes how long something is still, in its two largest units.
func Left(d time.Duration) string {
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// Leases writes leases as a table. Times are as of now.
func Leases(out io.Writer, leases []keep.Lease, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LEASE\tENDS\tIMAGES\tJOB\tNOTE")
	for _, l := range leases {
		images := strings.Join(l.Images[:min(len(l.Images), 2)], ", ")
		if more := len(l.Images) - 2; more > 0 {
			images += fmt.Sprintf(", %d more", more)
		}
		fmt.Fprintf(w, "%s\tin %s\t%s\t%s\t%s\n", render.SafeText(l.ID), Left(l.ExpiresAt.Sub(now)), render.SafeText(images), render.SafeText(l.Job), render.SafeText(l.Note))
	}
	return w.Flush()
}
