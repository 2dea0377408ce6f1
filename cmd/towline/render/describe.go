package render

import (
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// describeState names the phase of a state event, or the state before the first
// phase.
func describeState(e puller.Event) string {
	s := string(e.State)
	if e.Phase != "" {
		s = string(e.Phase)
	}
	if e.Attempt > 1 {
		s += fmt.Sprintf(", attempt %d", e.Attempt)
	}
	return s
}

// describeEnd says how a pull or a run has ended.
func describeEnd(j puller.Job) string {
	switch {
	case j.Error != nil && string(j.Error.Kind) == string(j.State): // canceled
		return string(j.State)
	case j.Error != nil:
		return fmt.Sprintf("%s: %s", j.State, j.Error.Kind)
	case j.Result == nil:
		return string(j.State)
	}
	r := j.Result
	if r.ExitCode != nil {
		return fmt.Sprintf("exited with %d", *r.ExitCode)
	}
	name := r.ImageID
	if r.Digest != "" {
		name = r.Digest
	}
	switch r.Source {
	case puller.SourcePresent:
		return fmt.Sprintf("present, %s", name)
	case puller.SourceUpToDate:
		return fmt.Sprintf("up to date, %s", name)
	}
	return fmt.Sprintf("pulled, %s, %s in %.1fs", name, formatBytes(r.Downloaded), r.DurationSeconds)
}

// describeDownload says how far a download is, as "downloaded 1.0 MB of 4.0 MB,
// 333.0 kB/s, 9s left".
func describeDownload(t pullstream.Totals) string { return "downloaded " + describeAmount(t) }

// describeAmount leaves out the verb.
func describeAmount(t pullstream.Totals) string {
	s := formatBytes(t.Downloaded)
	if t.Total > 0 {
		s += " of " + formatBytes(t.Total)
	}
	if t.Rate > 0 {
		s += ", " + formatBytes(t.Rate) + "/s"
	}
	if t.ETASeconds != nil {
		s += ", " + (time.Duration(*t.ETASeconds) * time.Second).String() + " left"
	}
	return s
}

// formatBytes writes a size in decimal units, as registries do.
func formatBytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1000, "kB"
	for _, next := range []string{"MB", "GB", "TB"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, next
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// Count writes a number of things, as "1 image" or "2 images".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
