package main

import (
	"fmt"
	"io"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// plain prints one line per change, for logs: no control characters, nothing
// that is later overwritten.
type plain struct {
	out    io.Writer
	phases map[string]pullstream.Phase // of each job's layers, as they were told
	told   map[string]time.Time        // when each job's totals were
}

// tellEvery is how often the totals of a long download are told.
const tellEvery = 10 * time.Second

func newPlain(out io.Writer) *plain {
	return &plain{out: out, phases: make(map[string]pullstream.Phase), told: make(map[string]time.Time)}
}

func (d *plain) end() {}

func (d *plain) show(j *puller.Job, e puller.Event) {
	say := func(format string, args ...any) {
		fmt.Fprintf(d.out, "%s: %s\n", printable(j.Image), printable(fmt.Sprintf(format, args...)))
	}
	switch e.Type {
	case "state":
		if !e.State.Ended() {
			say("%s", describeState(e))
		}
	case "notice":
		say("%s", e.Message)
	case "layer":
		d.layer(j, e, say)
	case "result":
		say("%s", describeEnd(*e.Result))
	}
}

func (d *plain) layer(j *puller.Job, e puller.Event, say func(string, ...any)) {
	key := j.ID + e.Layer.ID
	last, known := d.phases[key]
	d.phases[key] = e.Layer.Phase
	switch p := e.Layer.Phase; {
	case known && p == last, p == pullstream.Waiting, p == pullstream.Verifying:
	case p == pullstream.Downloading && e.Layer.Total > 0:
		say("layer %s: %s, %s", e.Layer.ID, p, bytesOf(e.Layer.Total))
	default:
		say("layer %s: %s", e.Layer.ID, p)
	}
	if t := e.Progress; t != nil && e.Layer.Phase == pullstream.Downloading {
		if last, known := d.told[j.ID]; !known {
			d.told[j.ID] = e.Time
		} else if e.Time.Sub(last) >= tellEvery {
			d.told[j.ID] = e.Time
			say("%s", describeTotals(*t))
		}
	}
}

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

func describeEnd(j puller.Job) string {
	if j.Error != nil {
		return fmt.Sprintf("%s: %s", j.State, j.Error.Kind)
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
	return fmt.Sprintf("pulled, %s, %s in %.1fs", name, bytesOf(r.Downloaded), r.DurationSeconds)
}

func describeTotals(t pullstream.Totals) string {
	s := "downloaded " + bytesOf(t.Downloaded)
	if t.Total > 0 {
		s += " of " + bytesOf(t.Total)
	}
	if t.Rate > 0 {
		s += ", " + bytesOf(t.Rate) + "/s"
	}
	if t.ETASeconds != nil {
		s += ", " + (time.Duration(*t.ETASeconds) * time.Second).String() + " left"
	}
	return s
}

// bytesOf writes a size in the decimal units that registries use.
func bytesOf(n int64) string {
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
