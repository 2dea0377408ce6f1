package render_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

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
		{Type: "notice", Message: "the engine tries layer aaaaaaaaaaaa again in 5 seconds, in a line of 世界 that is too long for the terminal"},
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

func TestBars(t *testing.T) {
	job, all := twoLayers()
	t.Run("wide", func(t *testing.T) { checkGolden(t, "bars/wide", drawn(t, size(100, 24, nil), job, all)) })
	t.Run("narrow", func(t *testing.T) { checkGolden(t, "bars/narrow", drawn(t, size(40, 24, nil), job, all)) })
	t.Run("low", func(t *testing.T) { checkGolden(t, "bars/low", drawn(t, size(100, 4, nil), job, all)) })
	t.Run("colored", func(t *testing.T) {
		var out strings.Builder
		d := render.NewColored(&out, size(40, 24, nil))
		failed := puller.Job{ID: "02J", Image: "registry.test/team/a-name-that-is-cut:v1", State: puller.StateFailed, Error: &puller.JobError{Kind: puller.ErrNotFound}}
		d.Show(&job, puller.Event{Type: "notice", Message: "the engine tries layer aaaaaaaaaaaa again in 5 seconds"})
		d.Show(&failed, puller.Event{Type: "result", Result: &failed})
		for _, e := range all[len(all)-1:] {
			d.Show(&job, e)
		}
		d.Close()
		checkGolden(t, "bars/colored", strings.NewReplacer("\x1b", "<ESC>", "\r", "<CR>").Replace(out.String()))
	})
	t.Run("80 columns without a size", func(t *testing.T) {
		if drawn(t, size(0, 0, errors.New("no terminal")), job, all) != drawn(t, size(80, 24, nil), job, all) {
			t.Error("they differ")
		}
	})
	t.Run("fit the terminal", func(t *testing.T) {
		job, all := recorded(t, "engine-20.10/fresh")
		const columns, rows = 50, 6
		frames := frame.Split(drawn(t, size(columns, rows, nil), job, all), -1)
		last := frames[len(frames)-1]
		for _, f := range frames[:len(frames)-1] {
			lines := strings.Split(f, "\n")
			if len(lines) > rows {
				t.Errorf("a frame of %d lines:\n%s", len(lines), f)
			}
			for _, l := range lines {
				if len([]rune(l)) >= columns {
					t.Errorf("a line of %d columns: %s", len([]rune(l)), l)
				}
			}
		}
		if !strings.HasPrefix(last, "127.0.0.1:5000/lab0:v1: pulled, sha256:") || !strings.HasSuffix(last, " in 12.3s\n") || strings.Count(last, "\n") != 1 {
			t.Errorf("the last frame is %q", last)
		}
	})
	t.Run("many images", func(t *testing.T) {
		var all []puller.Event
		d, out := sized(40, 5)
		for _, id := range []string{"1", "2", "3", "4", "5"} {
			all = append(all, puller.Event{Type: "state", State: puller.StateQueued, Job: id})
		}
		for _, e := range all {
			d.Show(&puller.Job{ID: e.Job, Image: "image" + e.Job}, e)
		}
		if want := "image1  queued\nimage2  queued\nand 3 images more: 0 done, 3 to come\n"; !strings.HasSuffix(out.String(), "\x1b[J"+want) {
			t.Errorf("%q does not end with %q", out, want)
		}
	})
	t.Run("what comes last before a silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d, out := sized(100, 24)
			for _, e := range all[:6] { // at once, to the first layer that downloads
				d.Show(&job, e)
			}
			<-time.After(time.Second)
			synctest.Wait()
			if last := out.String()[strings.LastIndex(out.String(), "\x1b[J"):]; !strings.Contains(last, "aaaaaaaaaaaa downloading  50%") {
				t.Errorf("the last picture is %q", last)
			}
			d.Show(&job, all[5])
			before := out.Len()
			d.Close()
			after := out.String()[before:]
			<-time.After(time.Second)
			synctest.Wait()
			if rest := out.String()[before:]; rest != after {
				t.Errorf("after its end, it draws %q", strings.TrimPrefix(rest, after))
			}
		})
	})
	t.Run("no other control characters", func(t *testing.T) {
		job, all := hostile()
		checkFrames(t, drawn(t, size(100, 24, nil), job, all))
	})
}
