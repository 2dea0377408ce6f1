package main

import (
	"fmt"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// tally is how far the images of a prewarm are.
type tally struct {
	images   int
	open     map[string]int // how many of an image have not ended
	there    int            // succeeded
	failed   int
	canceled int
	progress pullstream.Totals
}

// newTally counts from the beginning, which is where events begin.
func newTally(j *puller.Job) *tally {
	t := &tally{images: len(j.Children), open: make(map[string]int)}
	for _, s := range j.Images {
		if s.Service == "" {
			t.open[s.Image]++
		}
	}
	return t
}

// take takes in an event, and reports whether it told the end of an image.
func (t *tally) take(e puller.Event) (ended bool) {
	switch {
	case e.Type == "notice":
		// The prewarm tells of it as "IMAGE: STATE (…".
		image, rest, _ := strings.Cut(e.Message, ": ")
		state, _, _ := strings.Cut(rest, " (")
		if t.open[image] > 0 && t.count(puller.State(state)) {
			t.open[image]--
			return true
		}
	case e.Progress != nil:
		t.progress = *e.Progress
	case e.Result != nil:
		t.there, t.failed, t.canceled = 0, 0, 0
		for _, s := range e.Result.Images {
			t.count(s.State)
		}
		if e.Result.Progress != nil {
			t.progress = *e.Result.Progress
		}
	}
	return false
}

func (t *tally) count(s puller.State) bool {
	switch s {
	case puller.StateSucceeded:
		t.there++
	case puller.StateFailed:
		t.failed++
	case puller.StateCanceled:
		t.canceled++
	default:
		return false
	}
	return true
}

// String is such as "3 of 12 images there, 1 failed".
func (t *tally) String() string {
	s := fmt.Sprintf("%d of %s there", t.there, count(t.images, "image"))
	if t.failed > 0 {
		s += fmt.Sprintf(", %d failed", t.failed)
	}
	if t.canceled > 0 {
		s += fmt.Sprintf(", %d canceled", t.canceled)
	}
	return s
}

// bytes says how far the download is, and when that is done, the layers.
func (t *tally) bytes() string {
	p := t.progress
	if p.Total > 0 && p.Downloaded >= p.Total {
		return fmt.Sprintf("downloaded %s, %d of %s complete", bytesOf(p.Downloaded), p.LayersDone, count(p.Layers, "layer"))
	}
	return describeTotals(p)
}

// describeEnd says how a prewarm has ended.
func (t *tally) describeEnd(j *puller.Job) string {
	s := fmt.Sprintf("%s: %s", j.State, t)
	if r := j.Result; r != nil {
		s += fmt.Sprintf(", downloaded %s in %.1fs", bytesOf(r.Downloaded), r.DurationSeconds)
	}
	return s
}
