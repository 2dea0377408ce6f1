package render_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/render"
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
	add := func(after time.Duration, e puller.Event) {
		now = now.Add(after)
		e.Time, e.Job = now, job.ID
		all = append(all, e)
	}
	layer := func(id string, phase pullstream.Phase, t pullstream.Totals) puller.Event {
		return puller.Event{Type: "layer", Layer: &pullstream.Layer{ID: id, Phase: phase}, Progress: &t}
	}
	left := int64(9)
	add(0, puller.Event{Type: "state", State: puller.StateQueued})
	add(0, puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseResolving})
	add(0, puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhasePulling})
	add(time.Second, puller.Event{Type: "notice", Message: "docker.io/library/alpine:3.20: succeeded (present) after 0.0s"})
	add(time.Second, layer("aaaaaaaaaaaa", pullstream.Downloading, pullstream.Totals{Downloaded: 500_000, Layers: 1}))
	add(10*time.Second, layer("aaaaaaaaaaaa", pullstream.Downloading, pullstream.Totals{Downloaded: 1_000_000, Total: 4_000_000, Layers: 2, Rate: 333_000, ETASeconds: &left}))
	add(time.Second, puller.Event{Type: "notice", Message: "registry.test/nope:v1: failed (not_found): pull registry.test/nope:v1: manifest unknown"})
	add(time.Second, puller.Event{Type: "notice", Message: "towline is shutting down; the job goes on when it is back"})
	add(time.Second, puller.Event{Type: "notice", Message: "registry.test/nope:v1: failed (not_found): a second time"})
	add(15*time.Second, puller.Event{Type: "heartbeat"})
	add(time.Second, layer("bbbbbbbbbbbb", pullstream.Downloaded, pullstream.Totals{Downloaded: 4_000_000, Total: 4_000_000, Layers: 2, LayersDone: 1}))
	add(time.Second, puller.Event{Type: "notice", Message: "docker.io/library/alpine:3.20: succeeded (pulled) after 31.0s"})
	add(0, puller.Event{Type: "state", State: puller.StateFailed})
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
	add(0, puller.Event{Type: "result", Result: &ended})
	return job, all
}

// hostilePrewarm returns the hostile events as those of a prewarm.
func hostilePrewarm() (puller.Job, []puller.Event) {
	job, all := hostile()
	job.ID, job.Kind, job.Children = job.ID+nasty, puller.JobPrewarm, []string{"01K"}
	job.Images = []puller.ImageState{{Job: "01K", Image: job.Image, State: puller.StateQueued}}
	all = append(all, puller.Event{Type: "notice", Message: job.Image + ": failed (" + nasty})
	return job, all
}

func TestPrewarm(t *testing.T) {
	t.Run("log", func(t *testing.T) {
		out := logged(threeImages())
		checkGolden(t, "prewarm/lines", out)
		checkSafe(t, out)
		checkSafe(t, logged(hostilePrewarm()))
	})
	job, all := threeImages()
	t.Run("wide", func(t *testing.T) { checkGolden(t, "prewarm/wide", drawn(t, size(100, 24, nil), job, all)) })
	t.Run("narrow", func(t *testing.T) { checkGolden(t, "prewarm/narrow", drawn(t, size(40, 24, nil), job, all)) })
	t.Run("80 columns without a size", func(t *testing.T) {
		if drawn(t, size(0, 0, errors.New("no terminal")), job, all) != drawn(t, size(80, 24, nil), job, all) {
			t.Error("they differ")
		}
	})
	t.Run("no other control characters", func(t *testing.T) {
		job, all := hostilePrewarm()
		checkFrames(t, drawn(t, size(100, 24, nil), job, all))
	})
	t.Run("closed before the first event", func(t *testing.T) {
		render.NewSized(io.Discard, size(80, 24, nil)).Close()
	})
}

func TestReady(t *testing.T) {
	job := puller.Job{ID: "01J", Kind: puller.JobPrewarm}
	for i := range 1000 {
		job.Images = append(job.Images, puller.ImageState{Job: fmt.Sprint(i), Image: fmt.Sprintf("registry.test/i%d:v1", i)})
	}
	var rows render.Rows
	for i := range 1000 {
		end := puller.Event{Type: "notice", Message: fmt.Sprintf("registry.test/i%d:v1: %s (x) after 1.0s", i, []puller.State{puller.StateSucceeded, puller.StateFailed, puller.StateCanceled}[i%3])}
		for range 2 { // it counts once
			if !rows.Take(&job, end) {
				t.Fatalf("the end of image %d is not known", i)
			}
		}
	}
	if got, want := rows.Ready(), "334 of 1000 images ready, 333 failed, 333 canceled"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, m := range []string{"", ": ", "registry.test/i1:v1: queued (", "registry.test/other:v1: failed (x", "attempt 1 failed (stalled: x)"} {
		if rows.Take(&job, puller.Event{Type: "notice", Message: m}) {
			t.Errorf("%q ends an image", m)
		}
	}
}

// The events of images may come before those of their prewarm.
func TestEarlyImages(t *testing.T) {
	job, events := threeImages()
	var out strings.Builder
	d := render.New(&out)
	for _, i := range []int{2, 0} {
		state := job.Images[i]
		child := puller.Job{ID: state.Job, Kind: puller.JobPull, Parent: job.ID, Image: state.Image}
		ended := child
		ended.State, ended.Error = puller.StateFailed, &puller.JobError{Kind: puller.ErrNotFound}
		d.Show(&child, puller.Event{Type: "result", Job: child.ID, Result: &ended})
	}
	show(d, job, events)
	_, table, _ := strings.Cut(out.String(), "IMAGE ")
	var images []string
	for _, line := range strings.Split(strings.TrimSpace(table), "\n")[1:] {
		images = append(images, strings.Fields(line)[0])
	}
	want := []string{job.Images[0].Image, job.Images[1].Image, job.Images[2].Image}
	if diff := cmp.Diff(want, images); diff != "" || !strings.Contains(out.String(), "3 images") {
		t.Errorf("%s\n%s", diff, out.String())
	}
}
