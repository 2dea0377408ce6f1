package render

import (
	"fmt"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// totals counts the images of a prewarm by how they ended, and keeps its progress.
type totals struct {
	images   int
	running  map[string]int // by image, which may be asked for on several platforms
	ready    int            // succeeded
	failed   int
	canceled int
	progress pullstream.Totals
}

// newTotals starts before the job's first event.
func newTotals(j *puller.Job) *totals {
	t := &totals{images: len(j.Children), running: make(map[string]int)}
	for _, s := range j.Images {
		if s.Service == "" {
			t.running[s.Image]++
		}
	}
	return t
}

// add takes an event, and reports whether an image has ended with it.
func (t *totals) add(e puller.Event) (ended bool) {
	switch {
	case e.Type == "notice":
		// The end of an image is the notice "IMAGE: STATE (…".
		image, rest, _ := strings.Cut(e.Message, ": ")
		state, _, _ := strings.Cut(rest, " (")
		if t.running[image] > 0 && t.count(puller.State(state)) {
			t.running[image]--
			return true
		}
	case e.Progress != nil:
		t.progress = *e.Progress
	case e.Result != nil:
		t.ready, t.failed, t.canceled = 0, 0, 0
		for _, s := range e.Result.Images {
			t.count(s.State)
		}
		if e.Result.Progress != nil {
			t.progress = *e.Result.Progress
		}
	}
	return false
}

func (t *totals) count(s puller.State) bool {
	switch s {
	case puller.StateSucceeded:
		t.ready++
	case puller.StateFailed:
		t.failed++
	case puller.StateCanceled:
		t.canceled++
	default:
		return false
	}
	return true
}

// String returns such as "3 of 12 images ready, 1 failed".
func (t *totals) String() string {
	s := fmt.Sprintf("%d of %s ready", t.ready, Count(t.images, "image"))
	if t.failed > 0 {
		s += fmt.Sprintf(", %d failed", t.failed)
	}
	if t.canceled > 0 {
		s += fmt.Sprintf(", %d canceled", t.canceled)
	}
	return s
}

// describeProgress says how much is downloaded, and then how many layers are done.
func (t *totals) describeProgress() string {
	p := t.progress
	if p.Total > 0 && p.Downloaded >= p.Total {
		return fmt.Sprintf("%s, %d of %s complete", formatBytes(p.Downloaded), p.LayersDone, Count(p.Layers, "layer"))
	}
	return describeAmount(p)
}

// describeEnd says how the prewarm has ended.
func (t *totals) describeEnd(j *puller.Job) string {
	s := fmt.Sprintf("%s: %s", j.State, t)
	if r := j.Result; r != nil {
		s += fmt.Sprintf(", downloaded %s in %.1fs", formatBytes(r.Downloaded), r.DurationSeconds)
	}
	return s
}
