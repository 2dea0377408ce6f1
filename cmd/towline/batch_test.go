package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// threeImages is a prewarm of three images, two of them one on two platforms,
// of which one fails, over a restart of the daemon.
func threeImages() (puller.Job, []puller.Event) {
	queued := func(id, image string) puller.ImageState {
		return puller.ImageState{Job: id, Image: image, State: puller.StateQueued}
	}
	job := puller.Job{
		ID: "01J", Kind: puller.JobPrewarm, State: puller.StateQueued, Children: []string{"01K", "01L", "01M"},
		Images: []puller.ImageState{
			queued("01K", "docker.io/library/alpine:3.20"), queued("01L", "docker.io/library/alpine:3.20"), queued("01M", "registry.test/nope:v1"),
			{Service: "web", State: "skipped", Reason: "it is built"},
		},
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var all []puller.Event
	tell := func(after time.Duration, e puller.Event) {
		now = now.Add(after)
		e.Time, e.Job = now, job.ID
		all = append(all, e)
	}
	layer := func(id string, phase pullstream.Phase, t pullstream.Totals) puller.Event {
		return puller.Event{Type: "layer", Layer: &pullstream.Layer{ID: id, Phase: phase}, Progress: &t}
	}
	left := int64(9)
	tell(0, puller.Event{Type: "state", State: puller.StateQueued})
	tell(0, puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseResolving})
	tell(0, puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhasePulling})
	tell(time.Second, puller.Event{Type: "notice", Message: "docker.io/library/alpine:3.20: succeeded (present) after 0.0s"})
	tell(time.Second, layer("aaaaaaaaaaaa", pullstream.Downloading, pullstream.Totals{Downloaded: 500_000, Layers: 1}))
	tell(10*time.Second, layer("aaaaaaaaaaaa", pullstream.Downloading, pullstream.Totals{Downloaded: 1_000_000, Total: 4_000_000, Layers: 2, Rate: 333_000, ETASeconds: &left}))
	tell(time.Second, puller.Event{Type: "notice", Message: "registry.test/nope:v1: failed (not_found): pull registry.test/nope:v1: manifest unknown"})
	tell(time.Second, puller.Event{Type: "notice", Message: "towline is shutting down; the job goes on when it is back"})
	tell(time.Second, puller.Event{Type: "notice", Message: "registry.test/nope:v1: failed (not_found): which was told before"})
	tell(15*time.Second, puller.Event{Type: "heartbeat"})
	tell(time.Second, layer("bbbbbbbbbbbb", pullstream.Downloaded, pullstream.Totals{Downloaded: 4_000_000, Total: 4_000_000, Layers: 2, LayersDone: 1}))
	tell(time.Second, puller.Event{Type: "notice", Message: "docker.io/library/alpine:3.20: succeeded (pulled) after 31.0s"})
	tell(0, puller.Event{Type: "state", State: puller.StateFailed})
	ended := job
	ended.State, ended.FinishedAt = puller.StateFailed, now
	ended.Progress = &pullstream.Totals{Downloaded: 4_000_000, Total: 4_000_000, Layers: 2, LayersDone: 2}
	ended.Images = []puller.ImageState{
		{Job: "01K", Image: job.Images[0].Image, State: puller.StateSucceeded, Source: puller.SourcePresent},
		{Job: "01L", Image: job.Images[1].Image, State: puller.StateSucceeded, Source: puller.SourcePulled},
		{Job: "01M", Image: job.Images[2].Image, State: puller.StateFailed, Error: &puller.JobError{Kind: puller.ErrNotFound, Message: "pull registry.test/nope:v1: manifest unknown"}},
		job.Images[3],
	}
	ended.Error = &puller.JobError{Kind: puller.ErrNotFound, Message: "1 of 3 images were not pulled"}
	tell(0, puller.Event{Type: "result", Result: &ended})
	return job, all
}

// hostileBatch are the hostile events as those of a prewarm.
func hostileBatch() (puller.Job, []puller.Event) {
	job, all := hostile()
	job.ID, job.Kind, job.Children = job.ID+nasty, puller.JobPrewarm, []string{"01K"}
	job.Images = []puller.ImageState{{Job: "01K", Image: job.Image, State: puller.StateQueued}}
	all = append(all, puller.Event{Type: "notice", Message: job.Image + ": failed (" + nasty})
	return job, all
}

func TestAPrewarmIsToldPlainly(t *testing.T) {
	job, all := threeImages()
	var out strings.Builder
	d := &plainBatch{out: &out}
	for _, e := range all {
		d.show(&job, e)
	}
	d.end()
	checkGolden(t, "batch/plain", out.String())
	checkClean(t, out.String())

	out.Reset()
	d = &plainBatch{out: &out}
	job, all = hostileBatch()
	for _, e := range all {
		d.show(&job, e)
	}
	checkClean(t, out.String())
}

// drawnBatch is drawn, of a prewarm.
func drawnBatch(t *testing.T, size func() (int, int, error), job puller.Job, all []puller.Event) string {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		d := &batchBar{out: &out, size: size}
		for _, e := range all {
			d.show(&job, e)
			<-time.After(30 * time.Millisecond)
		}
		d.end()
	})
	return strings.NewReplacer("\x1b", "<ESC>", "\r", "<CR>").Replace(out.String())
}

func TestTheBarOfAPrewarmStaysBelowWhatHasEnded(t *testing.T) {
	job, all := threeImages()
	checkGolden(t, "batch/wide", drawnBatch(t, fixed(100, 24, nil), job, all))
	checkGolden(t, "batch/narrow", drawnBatch(t, fixed(40, 24, nil), job, all))
	if drawnBatch(t, fixed(0, 0, errors.New("no terminal")), job, all) != drawnBatch(t, fixed(80, 24, nil), job, all) {
		t.Error("without a size, it is not drawn for 80 columns")
	}
	job, all = hostileBatch()
	rest := regexp.MustCompile(`(<ESC>\[\d+A)?<CR><ESC>\[J`).ReplaceAllString(drawnBatch(t, fixed(100, 24, nil), job, all), "")
	checkClean(t, rest)
	if strings.Contains(rest, "<ESC>") || strings.Contains(rest, "<CR>") {
		t.Errorf("an escape gets through: %s", rest)
	}
	d := &batchBar{out: io.Discard, size: fixed(80, 24, nil)}
	d.end() // of what was never shown
}

func TestAThousandImagesAreTalliedOnce(t *testing.T) {
	job := puller.Job{ID: "01J", Kind: puller.JobPrewarm}
	for i := range 1000 {
		job.Children = append(job.Children, fmt.Sprint(i))
		job.Images = append(job.Images, puller.ImageState{Image: fmt.Sprintf("registry.test/i%d:v1", i)})
	}
	tally := newTally(&job)
	for i := range 1000 {
		end := puller.Event{Type: "notice", Message: fmt.Sprintf("registry.test/i%d:v1: %s (x) after 1.0s", i, []puller.State{puller.StateSucceeded, puller.StateFailed, puller.StateCanceled}[i%3])}
		if !tally.take(end) || tally.take(end) {
			t.Fatalf("%d is not told once", i)
		}
	}
	if got := tally.String(); got != "334 of 1000 images there, 333 failed, 333 canceled" {
		t.Error(got)
	}
	for _, m := range []string{"", ": ", "registry.test/i1:v1: queued (", "attempt 1 failed (stalled: x)"} {
		if tally.take(puller.Event{Type: "notice", Message: m}) {
			t.Errorf("%q is the end of an image", m)
		}
	}
}
