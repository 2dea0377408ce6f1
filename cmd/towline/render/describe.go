package render

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// status says what a row is at, as "pulling, 25%, 1.0/4.0 MB, 333.0 kB/s, 9s left".
func (r *row) status() string {
	return strings.Join(append([]string{r.phaseName()}, r.amounts()...), ", ")
}

// phaseName names the phase, or the state before the first phase.
func (r *row) phaseName() string {
	name := cmp.Or(string(r.phase), string(r.state), "waiting")
	if r.extracting() {
		name = "extracting"
	}
	if r.attempt > 1 {
		name += fmt.Sprintf(", attempt %d", r.attempt)
	}
	return name
}

// downloading reports whether a part of a known size is downloaded.
func (r *row) downloading() bool {
	t := r.progress
	return r.phase == puller.PhasePulling && t.Total > 0 && t.Downloaded < t.Total
}

// extracting reports whether all is downloaded, and not all extracted.
func (r *row) extracting() bool {
	t := r.progress
	return r.phase == puller.PhasePulling && t.Total > 0 && t.Downloaded >= t.Total
}

// amounts says how far the phase is: the part, the bytes, the rate and how long it
// takes, or how many layers are done.
func (r *row) amounts() (parts []string) {
	t := r.progress
	switch {
	case r.phase != puller.PhasePulling:
		return nil
	case r.downloading():
		parts = append(parts, fmt.Sprintf("%d%%", percent(t)), formatPart(t.Downloaded, t.Total))
	case t.Layers == 0 && (t.Total > 0 || t.Downloaded == 0):
		return nil
	case t.Total > 0 || t.Downloaded == 0:
		return []string{fmt.Sprintf("%d of %s done", t.LayersDone, Count(t.Layers, "layer"))}
	default:
		parts = append(parts, formatBytes(t.Downloaded))
	}
	if t.Rate > 0 {
		parts = append(parts, formatBytes(t.Rate)+"/s")
	}
	if t.ETASeconds != nil {
		parts = append(parts, formatLeft(*t.ETASeconds)+" left")
	}
	return parts
}

// percent is less than 100 until all is downloaded.
func percent(t pullstream.Totals) int64 {
	return min(99, int64(100*float64(t.Downloaded)/float64(t.Total)))
}

// describeEnd says how a job of one image has ended.
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
	name := cmp.Or(r.Digest, r.ImageID)
	if name == "" { // a prewarm tells no more of an image
		return sourceName(r.Source)
	}
	return fmt.Sprintf("%s, %s, %s", sourceName(r.Source), name, describeSize(r))
}

// describeEndShort leaves out the digest.
func describeEndShort(j puller.Job) string {
	if r := j.Result; j.Error != nil || r == nil || r.ExitCode != nil || r.Digest+r.ImageID == "" {
		return describeEnd(j)
	}
	return sourceName(j.Result.Source) + ", " + describeSize(j.Result)
}

// describeSize says how much a job has brought and how long that took. An image that
// was there has the size that the engine counts.
func describeSize(r *puller.Result) string {
	s := fmt.Sprintf("%s in %.1fs", formatBytes(broughtBytes(r)), r.DurationSeconds)
	if way := wayOf(r); way != "" {
		s += " by " + way
	}
	return s
}

func broughtBytes(r *puller.Result) int64 {
	if r.Source == puller.SourcePulled {
		return r.Downloaded
	}
	return r.Size
}

// wayOf names the way in which Towline fetched the image for the engine, "" where the
// engine fetched it.
func wayOf(r *puller.Result) string {
	if a := r.Accelerated; a != nil && a.Way != puller.WayNone {
		return string(a.Way)
	}
	return ""
}

func sourceName(s puller.Source) string { return strings.ReplaceAll(string(s), "_", " ") }

// describeDownload says how far a download is.
func describeDownload(t pullstream.Totals) string {
	r := row{phase: puller.PhasePulling, progress: t}
	return "downloaded " + strings.Join(r.amounts(), ", ")
}

// formatLeft writes a time in at most seven characters.
func formatLeft(seconds int64) string {
	switch d := time.Duration(min(seconds, 359_999)) * time.Second; {
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}

// formatBytes writes a size in decimal units, as registries do.
func formatBytes(n int64) string {
	unit, name := unitOf(n)
	if unit == 1 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), name)
}

// Size writes a size for people.
func Size(n int64) string { return formatBytes(n) }

// formatPart writes a part of a whole, in the unit of the whole: "1.0/4.0 MB".
func formatPart(part, whole int64) string {
	unit, _ := unitOf(whole)
	if unit == 1 {
		return fmt.Sprintf("%d/%d B", part, whole)
	}
	return fmt.Sprintf("%.1f/%s", float64(part)/float64(unit), formatBytes(whole))
}

func unitOf(n int64) (unit int64, name string) {
	unit, name = 1, "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if n < 1000*unit {
			break
		}
		unit, name = 1000*unit, next
	}
	return unit, name
}

// Count writes a number of things, as "1 image" or "2 images".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
