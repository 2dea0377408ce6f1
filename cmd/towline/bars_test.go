package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// drawn feeds bars with events, 30 ms between any two, and returns what they
// write, with ESC and CR as words.
func drawn(t *testing.T, size func() (int, int, error), job puller.Job, all []puller.Event) string {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		d := &bars{out: &out, size: size}
		for _, e := range all {
			d.show(&job, e)
			<-time.After(30 * time.Millisecond)
		}
		d.end()
	})
	return strings.NewReplacer("\x1b", "<ESC>", "\r", "<CR>").Replace(out.String())
}

func fixed(width, height int, err error) func() (int, int, error) {
	return func() (int, int, error) { return width, height, err }
}

// twoLayers is a pull in two attempts.
func twoLayers() (puller.Job, []puller.Event) {
	job := puller.Job{ID: "01J", Image: "docker.io/library/alpine:3.20"}
	state := func(phase puller.Phase, attempt int) puller.Event {
		return puller.Event{Type: "state", State: puller.StateActive, Phase: phase, Attempt: attempt}
	}
	layer := func(id string, phase pullstream.Phase, current, total, downloaded int64) puller.Event {
		return puller.Event{Type: "layer", Layer: &pullstream.Layer{ID: id, Phase: phase, Current: current, Total: total},
			Progress: &pullstream.Totals{Downloaded: downloaded, Total: 3000}}
	}
	ended := job
	ended.State, ended.Result = puller.StateSucceeded, &puller.Result{Digest: "sha256:1d", Source: puller.SourcePulled, Downloaded: 3000, DurationSeconds: 1.5}
	return job, []puller.Event{
		{Type: "state", State: puller.StateQueued},
		state(puller.PhaseResolving, 1),
		state(puller.PhasePulling, 1),
		layer("aaaaaaaaaaaa", pullstream.Waiting, 0, 0, 0),
		layer("bbbbbbbbbbbb", pullstream.Existing, 0, 0, 0),
		layer("aaaaaaaaaaaa", pullstream.Downloading, 500, 1000, 500),
		{Type: "notice", Message: "the engine tries layer aaaaaaaaaaaa again in 5 seconds, which is a line that is too long for the terminal"},
		state(puller.PhaseResolving, 2),
		state(puller.PhasePulling, 2),
		layer("aaaaaaaaaaaa", pullstream.Downloading, 900, 1000, 900),
		layer("cccccccccccc", pullstream.Downloading, 1, 2000, 901),
		layer("aaaaaaaaaaaa", pullstream.Extracting, 250, 1000, 3000),
		layer("cccccccccccc", pullstream.Complete, 2000, 2000, 3000),
		state(puller.PhaseVerifying, 2),
		{Type: "state", State: puller.StateSucceeded, Attempt: 2},
		{Type: "result", Result: &ended},
	}
}

func TestBarsAreDrawnOverInPlace(t *testing.T) {
	job, all := twoLayers()
	checkGolden(t, "bars/wide", drawn(t, fixed(100, 24, nil), job, all))
	checkGolden(t, "bars/narrow", drawn(t, fixed(40, 24, nil), job, all))
	checkGolden(t, "bars/low", drawn(t, fixed(100, 3, nil), job, all))
	if drawn(t, fixed(0, 0, errors.New("no terminal")), job, all) != drawn(t, fixed(80, 24, nil), job, all) {
		t.Error("without a size, they are not drawn for 80 columns")
	}
}

func TestBarsOfARealPullFitTheTerminal(t *testing.T) {
	job, all := events(t, "engine-20.10/fresh")
	const width, height = 50, 6
	out := drawn(t, fixed(width, height, nil), job, all)
	frame := regexp.MustCompile(`(<ESC>\[\d+A)?<CR><ESC>\[J`)
	frames := frame.Split(out, -1)
	for _, f := range frames {
		lines := strings.Split(f, "\n")
		if len(lines) > height {
			t.Errorf("a frame of %d lines:\n%s", len(lines), f)
		}
		for _, l := range lines {
			if len([]rune(l)) >= width {
				t.Errorf("a line of %d: %s", len([]rune(l)), l)
			}
		}
	}
	if last := frames[len(frames)-1]; !strings.HasPrefix(last, "127.0.0.1:5000/lab0:v1: pulled, sha256:") || strings.Count(last, "\n") != 1 {
		t.Errorf("the last frame is %q", last)
	}
}

func TestBarsLetNobodyElseMoveTheCursor(t *testing.T) {
	job, all := hostile()
	out := drawn(t, fixed(100, 24, nil), job, all)
	own := regexp.MustCompile(`(<ESC>\[\d+A)?<CR><ESC>\[J`)
	rest := own.ReplaceAllString(out, "")
	checkClean(t, rest)
	if strings.Contains(rest, "<ESC>") || strings.Contains(rest, "<CR>") {
		t.Errorf("an escape gets through: %s", out)
	}
}
