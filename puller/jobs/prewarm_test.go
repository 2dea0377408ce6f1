package jobs_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream/pullstream"
)

// prewarmOf submits a prewarm of images, each asked for in any case.
func (d *daemon) prewarmOf(failFast bool, images ...string) puller.Job {
	d.Helper()
	r := puller.PrewarmRequest{FailFast: failFast, Policy: puller.PolicyAlways}
	for _, image := range images {
		r.Images = append(r.Images, puller.PullRequest{Image: image})
	}
	return d.prewarm(r)
}

func (d *daemon) prewarm(r puller.PrewarmRequest) puller.Job {
	d.Helper()
	j, err := d.Prewarm(r)
	if err != nil {
		d.Fatal(err)
	}
	d.follow(j)
	return j
}

// child returns a prewarm's nth child as it stands.
func (d *daemon) child(parent puller.Job, n int) puller.Job {
	d.Helper()
	j, err := d.Job(parent.Children[n])
	if err != nil {
		d.Fatal(err)
	}
	return j
}

// nth is the name of an image of its own.
func nth(n int) string { return fmt.Sprintf("registry.test/image%d:v1", n) }

// images says what became of a prewarm's images: "succeeded", "failed not_found".
func images(j puller.Job) []string {
	var all []string
	for _, s := range j.Images {
		word := string(s.State)
		if s.Error != nil {
			word += " " + string(s.Error.Kind)
		}
		all = append(all, word)
	}
	return all
}

// layered serves an image of layers, each of 1000 bytes, that wait at half for
// the gate.
func (d *daemon) layered(image string, gate <-chan struct{}, layers ...string) {
	i := enginetest.NewImage(image, len(image)*1000+int(image[len(image)-4]))
	d.engine.Script(image, func(p *enginetest.Pull) {
		for _, id := range layers {
			p.Line(line(id, "Pulling fs layer", 0, 0))
		}
		for _, id := range layers {
			p.Line(line(id, "Downloading", 500, 1000))
		}
		if gate != nil && !p.Until(gate) {
			return
		}
		for _, id := range layers {
			p.Line(line(id, "Download complete", 0, 0))
			p.Line(line(id, "Pull complete", 0, 0))
		}
		p.Tag(i)
		p.Line(`{"status":"Digest: ` + enginetest.Digest(i) + `"}`)
	})
}

// forward checks that a job's progress, as its reader was told, never ran
// backwards, and returns the last of it.
func (d *daemon) forward(j puller.Job) (last puller.Event) {
	d.Helper()
	for _, e := range d.events(j) {
		if e.Progress == nil {
			continue
		}
		if l := last.Progress; l != nil {
			if e.Progress.Downloaded < l.Downloaded || e.Progress.Extracted < l.Extracted || e.Progress.Layers < l.Layers || e.Progress.LayersDone < l.LayersDone || e.Progress.LayersExisting < l.LayersExisting {
				d.Errorf("the progress went from %+v to %+v", *l, *e.Progress)
			}
		}
		last = e
	}
	return last
}

func TestPrewarm(t *testing.T) {
	t.Parallel()
	t.Run("children", testPrewarmChildren)
	t.Run("accepted whole", testPrewarmAcceptedWhole)
	t.Run("one image fails", testPrewarmOneImageFails)
	t.Run("fail fast", testPrewarmFailFast)
	t.Run("error", testPrewarmError)
	t.Run("cancel", testPrewarmCancel)
	t.Run("cancel twice", testPrewarmCancelTwice)
	t.Run("cancel already ending", testPrewarmCancelAlreadyEnding)
	t.Run("cancel one image", testPrewarmCancelOneImage)
	t.Run("present", testPrewarmPresent)
	t.Run("all skipped", testPrewarmAllSkipped)
	t.Run("idempotency key", testPrewarmIdempotencyKey)
	t.Run("image twice", testPrewarmImageTwice)
	t.Run("progress shared layers", testPrewarmProgressSharedLayers)
	t.Run("progress over retries", testPrewarmProgressOverRetries)
	t.Run("progress total", testPrewarmProgressTotal)
	t.Run("restart", testPrewarmRestart)
	t.Run("restart fail fast", testPrewarmRestartFailFast)
	t.Run("restart fail fast halfway", testPrewarmRestartFailFastHalfway)
	t.Run("children forgotten", testPrewarmChildrenForgotten)
	t.Run("restart with credentials", testPrewarmRestartWithCredentials)
	t.Run("engine away", testPrewarmEngineAway)
	t.Run("long ends", testPrewarmLongEnds)
	t.Run("long and short", testPrewarmLongAndShort)
	t.Run("many long", testPrewarmManyLong)
}

func testPrewarmChildren(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		for n := range 3 {
			d.serve(nth(n))
		}
		d.serve("docker.io/library/alpine:latest")
		two := 2
		parent := d.prewarm(puller.PrewarmRequest{
			Images: puller.Images{
				{Image: "alpine"},
				{Image: nth(1), Platform: "linux/amd64", Policy: puller.PolicyMissing, Priority: puller.PriorityLow, Retries: &two, Timeout: puller.Duration(time.Minute)},
				{Image: nth(2)},
			},
			Policy: puller.PolicyAlways, Priority: puller.PriorityHigh,
		})
		if parent.Kind != puller.JobPrewarm || parent.State.Ended() || parent.Priority != puller.PriorityHigh || len(parent.Children) != 3 || parent.Image != "" {
			t.Errorf("the prewarm is %+v", parent)
		}
		for n, want := range []puller.Job{
			{Image: "docker.io/library/alpine:latest", Policy: puller.PolicyAlways, Priority: puller.PriorityHigh},
			{Image: nth(1), Platform: "linux/amd64", Policy: puller.PolicyMissing, Priority: puller.PriorityLow},
			{Image: nth(2), Policy: puller.PolicyAlways, Priority: puller.PriorityHigh},
		} {
			got := d.child(parent, n)
			if got.Kind != puller.JobPull || got.Parent != parent.ID || got.Image != want.Image || got.Platform != want.Platform || got.Policy != want.Policy || got.Priority != want.Priority {
				t.Errorf("child %d is %+v", n, got)
			}
			if s := parent.Images[n]; s.Job != got.ID || s.Image != want.Image || s.State.Ended() {
				t.Errorf("image %d is %+v", n, s)
			}
		}
		ended := d.succeeded(parent, "")
		for n, s := range ended.Images {
			if s.State != puller.StateSucceeded || s.Source != puller.SourcePulled || s.Job != parent.Children[n] || s.Error != nil {
				t.Errorf("in the end image %d is %+v", n, s)
			}
			d.succeeded(d.child(parent, n), puller.SourcePulled)
		}
		// The three images are of the same two layers.
		if ended.Result.Downloaded != 2000 || ended.Progress.Downloaded != 2000 || ended.Progress.Total != 2000 || ended.Progress.Layers != 2 || ended.Progress.LayersDone != 2 {
			t.Errorf("the result is %+v, the progress %+v", ended.Result, ended.Progress)
		}
		events := d.events(parent)
		got := numbered(events)
		if want := []string{"state queued", "state active/resolving", "state active/pulling", "notice", "notice", "notice", "state succeeded", "result"}; !slices.Equal(got, want) {
			t.Errorf("the numbered events are %q", got)
		}
		if last := events[len(events)-1].Result; last == nil || !slices.Equal(last.Children, parent.Children) || len(last.Images) != 3 {
			t.Errorf("the last event has %+v", last)
		}
		said := strings.Join(notices(events), "\n")
		for _, name := range []string{"docker.io/library/alpine:latest: succeeded (pulled)", nth(1) + ": succeeded", nth(2) + ": succeeded"} {
			if !strings.Contains(said, name) {
				t.Errorf("no notice has %q:\n%s", name, said)
			}
		}
	})
}

func testPrewarmAcceptedWhole(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		var sizes []int // the jobs of each Save
		d.store.OnSave(func(records []store.Record) {
			if len(records) > 0 {
				sizes = append(sizes, len(records))
			}
		})
		d.serve(good)
		request := puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}, {Image: nth(3)}}, IdempotencyKey: "ci"}
		none := func(what string, r puller.PrewarmRequest, kind puller.ErrorKind, names string) {
			d.Helper()
			j, err := d.Prewarm(r)
			if puller.KindOf(err) != kind || !strings.Contains(err.Error(), names) {
				d.Errorf("%s: it gave %+v, %v", what, j, err)
			}
			if page, _, err := d.Jobs(puller.Filter{}); err != nil || len(page) != 0 {
				d.Errorf("%s: there are %+v, %v", what, page, err)
			}
		}
		bad := request
		bad.Images = slices.Concat(request.Images, puller.Images{{Image: "Not A Reference"}})
		none("a bad reference", bad, puller.ErrInvalidRequest, `images[3]: image: "Not A Reference"`)
		none("no images", puller.PrewarmRequest{}, puller.ErrInvalidRequest, "images: missing")
		bad.Images = make(puller.Images, 1001)
		bad.Images = make(puller.Images, 10_000)
		none("far too many images", bad, puller.ErrInvalidRequest, "images: 10000")
		bad.Images = make(puller.Images, 1001)
		none("too many images", bad, puller.ErrInvalidRequest, "images: 1001")
		d.store.Fail(errors.New("no space"))
		none("a store that fails", request, puller.ErrOverloaded, "no space")
		d.store.Fail(nil)
		synctest.Wait()
		sizes = nil
		parent := d.prewarm(request)
		synctest.Wait()
		if len(sizes) == 0 || sizes[0] != 4 {
			t.Errorf("the saves had %d jobs", sizes)
		}
		d.end(parent)
		if page, _, err := d.Jobs(puller.Filter{}); err != nil || len(page) != 4 {
			d.Errorf("there are %+v, %v", page, err)
		}
		if page, _, err := d.Jobs(puller.Filter{Kind: puller.JobPrewarm}); err != nil || len(page) != 1 || page[0].ID != parent.ID || page[0].Images != nil || len(page[0].Children) != 3 {
			d.Errorf("the list of prewarms is %+v, %v", page, err)
		}
	})
}

func testPrewarmOneImageFails(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(nth(1))
		d.engine.Script(nth(2), func(p *enginetest.Pull) { p.Fail("unauthorized: authentication required") })
		d.serve(nth(3))
		parent := d.prewarmOf(false, nth(0), nth(1), nth(2), nth(3))
		v := d.failed(parent, puller.ErrNotFound) // nobody serves the first
		if got := images(v); !slices.Equal(got, []string{"failed not_found", "succeeded", "failed denied", "succeeded"}) {
			t.Errorf("the images are %q", got)
		}
		if m := v.Error.Message; !strings.HasPrefix(m, "2 of 4 images were not pulled: "+nth(0)+" (not_found): ") || !strings.Contains(m, nth(2)+" (denied): ") {
			t.Errorf("the error is %q", m)
		}
		if v.Progress == nil || v.Progress.Downloaded != 2000 {
			t.Errorf("the progress is %+v", v.Progress)
		}
	})
}

func testPrewarmFailFast(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.hold(nth(0))
		release := d.hold(nth(1))
		fail := make(chan struct{})
		d.engine.Script(nth(3), func(p *enginetest.Pull) {
			if p.Until(fail) {
				p.Fail("no space left on device")
			}
		})
		d.serve(nth(2))
		d.hold(nth(4))
		d.hold(nth(5)) // it may have the slot for as long as the failure is being kept
		single := d.pullAlways(nth(1))
		parent := d.prewarmOf(true, nth(0), nth(1), nth(2), nth(3), nth(4), nth(5))
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		close(fail)
		v := d.failed(parent, puller.ErrNoSpace)
		got := images(v)
		if want := []string{"canceled canceled", "canceled canceled", "succeeded", "failed no_space", "canceled canceled", "canceled canceled"}; !slices.Equal(got, want) {
			t.Errorf("the images are %q", got)
		}
		if m := v.Error.Message; !strings.Contains(m, "not pulled: "+nth(3)+" (no_space): ") || !strings.Contains(m, nth(0)+" (canceled)") {
			t.Errorf("the error is %q", m)
		}
		synctest.Wait()
		if c := d.engine.Counts(); c.Active != 1 { // the transfer that another job shares
			t.Errorf("%d pulls go on", c.Active)
		}
		release()
		d.succeeded(single, puller.SourcePulled)
	})
}

// cutShort checks how many of the engine's pulls were aborted, and go on.
func (d *daemon) cutShort(aborted, active int) {
	d.Helper()
	synctest.Wait()
	if c := d.engine.Counts(); c.Aborted != aborted || c.Active != active {
		d.Fatalf("%d of the engine's pulls were aborted, not %d, and %d go on, not %d", c.Aborted, aborted, c.Active, active)
	}
}

// However many images fail, and whatever the engine says of each, the error
// begins with those that failed by themselves, and has the kinds of many.
func testPrewarmError(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		var names []string
		for n := range 20 {
			names = append(names, nth(n))
			d.engine.Script(nth(n), func(p *enginetest.Pull) { p.Fail("manifest unknown" + strings.Repeat(" really", 200)) })
		}
		v := d.failed(d.prewarmOf(false, names...), puller.ErrNotFound)
		for _, name := range names {
			if !strings.Contains(v.Error.Message, name+" (not_found)") {
				t.Errorf("%s is not in the error: %q", name, v.Error.Message)
			}
		}
	})
	withDaemonOf(t, single, nil, func(d *daemon) {
		names := []string{}
		for n := range 60 {
			names = append(names, nth(n))
			d.hold(nth(n))
		}
		d.engine.Script(nth(0), func(p *enginetest.Pull) { p.Fail("manifest unknown") })
		slices.Reverse(names)
		parent := d.prewarm(puller.PrewarmRequest{Policy: puller.PolicyAlways, FailFast: true, Priority: puller.PriorityLow, Images: func() (all puller.Images) {
			for _, name := range names {
				all = append(all, puller.PullRequest{Image: name})
			}
			all[59].Priority = puller.PriorityHigh
			return all
		}()})
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		if _, err := d.Cancel(parent.Children[0]); err != nil { // it has the slot
			t.Fatal(err)
		}
		v := d.failed(parent, puller.ErrNotFound)
		if m := v.Error.Message; !strings.HasPrefix(m, "60 of 60 images were not pulled: "+nth(0)+" (not_found)") {
			t.Errorf("the error is %q", m)
		}
	})
}

func testPrewarmCancel(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(nth(0))
		d.hold(nth(2))
		release := d.hold(nth(3))
		shared := d.pullAlways(nth(3))
		parent := d.prewarmOf(false, nth(0), nth(1), nth(2), nth(3))
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		v, err := d.Cancel(parent.ID)
		if err != nil || v.State != puller.StateCanceled || v.Error == nil || v.Error.Kind != puller.ErrCanceled {
			t.Errorf("it was answered with %s, %+v, %v", v.State, v.Error, err)
		}
		if got := images(v); !slices.Equal(got, []string{"succeeded", "failed not_found", "canceled canceled", "canceled canceled"}) {
			t.Errorf("the images are %q", got)
		}
		d.cutShort(1, 1)
		if _, err := d.Cancel(parent.ID); puller.KindOf(err) != puller.ErrConflict {
			t.Errorf("canceled again: %v", err)
		}
		if _, err := d.Cancel(parent.Children[2]); puller.KindOf(err) != puller.ErrConflict {
			t.Errorf("its child canceled again: %v", err)
		}
		release()
		d.succeeded(shared, puller.SourcePulled)
		events := d.events(parent)
		if got := numbered(events); !slices.Equal(got[len(got)-2:], []string{"state canceled", "result"}) {
			t.Errorf("the numbered events are %q", got)
		}
	})
}

func testPrewarmCancelTwice(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		d.hold(other)
		parent := d.prewarmOf(false, good, other)
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		var both sync.WaitGroup
		var kinds [2]puller.ErrorKind
		for i := range kinds {
			both.Go(func() {
				_, err := d.Cancel(parent.ID)
				kinds[i] = puller.KindOf(err)
			})
		}
		both.Wait()
		if kinds != [2]puller.ErrorKind{"", puller.ErrConflict} && kinds != [2]puller.ErrorKind{puller.ErrConflict, ""} {
			t.Errorf("they were answered with %q", kinds)
		}
		d.failed(parent, puller.ErrCanceled)
	})
}

// All children have ended, but that is not on disk yet.
func testPrewarmCancelAlreadyEnding(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		parent := d.prewarmOf(false, good)
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		d.inState(d.child(parent, 0), puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		gate := make(chan struct{})
		d.store.OnSave(func([]store.Record) { <-gate })
		release()
		synctest.Wait()
		answered := make(chan error)
		go func() {
			_, err := d.Cancel(parent.ID)
			answered <- err
		}()
		synctest.Wait()
		close(gate)
		if err := <-answered; puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), "succeeded") {
			t.Errorf("it was answered with %v", err)
		}
		d.succeeded(parent, "")
	})
}

func testPrewarmCancelOneImage(t *testing.T) {
	for _, failFast := range []bool{false, true} {
		withDaemon(t, func(d *daemon) {
			release := d.hold(good)
			d.hold(other)
			parent := d.prewarmOf(failFast, other, good)
			d.inState(parent, puller.StateActive, puller.PhasePulling)
			if v, err := d.Cancel(parent.Children[0]); err != nil || v.State != puller.StateCanceled {
				t.Errorf("it was answered with %+v, %v", v, err)
			}
			d.cutShort(1, 1)
			release()
			v := d.failed(parent, puller.ErrCanceled)
			if got := images(v); !slices.Equal(got, []string{"canceled canceled", "succeeded"}) {
				t.Errorf("the images are %q", got)
			}
		})
	}
}

func testPrewarmPresent(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		var list puller.Images
		for n := range 40 {
			d.engine.Tag(nth(n), d.serve(nth(n)))
			list = append(list, puller.PullRequest{Image: nth(n)})
		}
		parent := d.prewarm(with(puller.PrewarmRequest{Images: list}, func(r *puller.PrewarmRequest) { r.Skipped = []puller.Skipped{{Service: "app", Reason: "built"}} }))
		v := d.succeeded(parent, "")
		for _, s := range v.Images[:40] {
			if s.State != puller.StateSucceeded || s.Source != puller.SourcePresent {
				t.Errorf("an image is %+v", s)
			}
		}
		if s := v.Images[40]; s.Service != "app" || s.State != "skipped" || s.Reason != "built" {
			t.Errorf("the last is %+v", s)
		}
		d.wantPulls(0)
		if v.Progress.Layers != 0 || v.Result.Downloaded != 0 {
			t.Errorf("the progress is %+v", v.Progress)
		}
		if got := numbered(d.events(parent)); slices.Contains(got, "state active/pulling") {
			t.Errorf("the numbered events are %q", got)
		}
	})
}

func testPrewarmAllSkipped(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		request := with(puller.PrewarmRequest{IdempotencyKey: "ci"}, func(r *puller.PrewarmRequest) { r.Skipped = []puller.Skipped{{Service: "app", Reason: "built"}} })
		parent := d.prewarm(request)
		v := d.succeeded(parent, "")
		if len(v.Children) != 0 || len(v.Images) != 1 || v.Images[0].State != "skipped" {
			t.Errorf("it is %+v", v)
		}
		if again, err := d.Prewarm(request); err != nil || again.ID != parent.ID {
			t.Errorf("sent again, it is %+v, %v", again, err)
		}
		request.Skipped = []puller.Skipped{{Service: "other", Reason: "built"}}
		if j, err := d.Prewarm(request); puller.KindOf(err) != puller.ErrConflict {
			t.Errorf("another list with its key gave %+v, %v", j, err)
		}
		if _, err := d.Cancel(parent.ID); puller.KindOf(err) != puller.ErrConflict {
			t.Errorf("canceled: %v", err)
		}
	})
}

func testPrewarmIdempotencyKey(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		d.hold(other)
		request := puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}, IdempotencyKey: "ci", Credentials: credentials(t, "secret")}
		parent := d.prewarm(request)
		same := func() {
			d.Helper()
			if again, err := d.Prewarm(request); err != nil || again.ID != parent.ID {
				d.Errorf("sent again, it is %+v, %v", again, err)
			}
		}
		differs := func() {
			d.Helper()
			failFast, less, public := request, request, request
			failFast.FailFast = true
			less.Images = request.Images[:1]
			public.Credentials = puller.Credentials{}
			for _, r := range []puller.PrewarmRequest{failFast, less, public} {
				if j, err := d.Prewarm(r); puller.KindOf(err) != puller.ErrConflict {
					d.Errorf("another with its key gave %+v, %v", j, err)
				}
			}
			if j, err := d.Pull(puller.PullRequest{Image: good, IdempotencyKey: "ci"}); puller.KindOf(err) != puller.ErrConflict {
				d.Errorf("a pull with its key gave %+v, %v", j, err)
			}
		}
		same()
		differs()
		d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) { <-gone; return 0, "" })
		d.restart()
		same()
		differs()
		d.engine.OnInspect(nil)
		d.failed(parent, puller.ErrDenied)
		same()
		differs()
	})
}

// Two that are the same share a transfer.
func testPrewarmImageTwice(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		gate := make(chan struct{})
		d.layered(good, gate, layerA)
		parent := d.prewarmOf(false, good, good)
		d.wantPulls(1)
		if v := d.settled(parent); v.Progress.Downloaded != 500 || v.Progress.Total != 1000 || v.Progress.Layers != 1 {
			t.Errorf("the progress is %+v", v.Progress)
		}
		close(gate)
		if v := d.succeeded(parent, ""); v.Result.Downloaded != 1000 || !slices.Equal(images(v), []string{"succeeded", "succeeded"}) {
			t.Errorf("it is %+v", v)
		}
		d.wantPulls(1)
		d.forward(parent)
	})
	// That one of them is canceled says nothing of the image.
	withDaemonOf(t, single, nil, func(d *daemon) {
		gate := make(chan struct{})
		d.layered(good, gate, layerA)
		d.hold(other)
		parent := d.prewarmOf(false, good, other, other)
		if v := d.settled(parent); v.Progress.Total != 0 {
			t.Errorf("the progress is %+v", v.Progress)
		}
		if _, err := d.Cancel(parent.Children[1]); err != nil {
			t.Fatal(err)
		}
		if v := d.settled(parent); v.Progress.Total != 0 {
			t.Errorf("with one canceled, the progress is %+v", v.Progress)
		}
		if _, err := d.Cancel(parent.Children[2]); err != nil {
			t.Fatal(err)
		}
		if v := d.settled(parent); v.Progress.Total != 1000 {
			t.Errorf("with both canceled, the progress is %+v", v.Progress)
		}
		close(gate)
	})
}

func testPrewarmProgressSharedLayers(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.Script(nth(0), func(p *enginetest.Pull) { // has the first layer
			p.Line(line(layerA, "Already exists", 0, 0))
			p.Tag(enginetest.NewImage(nth(0), 9))
			p.Line(`{"status":"Digest: ` + enginetest.Digest(enginetest.NewImage(nth(0), 9)) + `"}`)
		})
		first, second := make(chan struct{}), make(chan struct{})
		d.layered(nth(1), first, layerB, "cccccccccccc")
		d.layered(nth(2), second, layerB, "dddddddddddd")
		single := d.pullAlways(nth(1)) // which the prewarm joins late
		d.inState(single, puller.StateActive, puller.PhasePulling)
		parent := d.prewarmOf(false, nth(0), nth(1), nth(2))
		v := d.settled(parent)
		if p := v.Progress; p.Downloaded != 1500 || p.Total != 3000 || p.Layers != 4 || p.LayersExisting != 1 || p.LayersDone != 1 {
			t.Errorf("the progress is %+v", p)
		}
		close(first)
		v = d.settled(parent)
		if p := v.Progress; p.Downloaded != 2500 || p.Total != 3000 || p.LayersDone != 3 || p.Extracted != 2000 {
			t.Errorf("after the first, the progress is %+v", p)
		}
		close(second)
		v = d.succeeded(parent, "")
		if p := v.Progress; p.Downloaded != 3000 || p.Total != 3000 || p.LayersDone != 4 || p.LayersExisting != 1 || v.Result.Downloaded != 3000 || p.Rate != 0 {
			t.Errorf("in the end, the progress is %+v, the result %+v", p, v.Result)
		}
		d.forward(parent)
	})
}

func testPrewarmProgressOverRetries(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.attempts(good, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Downloading", 800, 1000))
			p.Line(line(layerB, "Downloading", 100, 1000))
			p.Cut()
		}, func(p *enginetest.Pull) {
			p.Line(line(layerA, "Pulling fs layer", 0, 0))
			p.Line(line(layerB, "Pulling fs layer", 0, 0))
			p.Line(line(layerA, "Downloading", 100, 1000))
			p.Wait(time.Second)
			p.Cut()
		}, served())
		parent := d.prewarmOf(false, good)
		v := d.succeeded(parent, "")
		if v.Progress.Downloaded != 2000 || v.Progress.Total != 2000 {
			t.Errorf("in the end, the progress is %+v", v.Progress)
		}
		d.forward(parent)
		if child := d.child(parent, 0); child.Attempt != 3 {
			t.Errorf("the child is %+v", child)
		}
	})
}

func testPrewarmProgressTotal(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		first, second := make(chan struct{}), make(chan struct{})
		d.layered(nth(0), first, layerA)
		d.layered(nth(1), second, layerB)
		parent := d.prewarmOf(false, nth(0), nth(1), nth(2)) // nobody serves the third
		total := func(want int64) {
			d.Helper()
			if v := d.settled(parent); v.Progress.Total != want || want == 0 && v.Progress.ETASeconds != nil {
				d.Errorf("the progress is %+v", v.Progress)
			}
		}
		total(0)
		close(first)
		total(0)
		if _, err := d.Cancel(parent.Children[2]); err != nil {
			t.Fatal(err)
		}
		total(2000)
		close(second)
		d.end(parent)
		total(2000)
	})
}

func testPrewarmRestart(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(d *daemon)
	}{{"restart", (*daemon).restart}, {"crash", (*daemon).crash}} {
		t.Run(c.name, func(t *testing.T) {
			check := func(d *daemon, parent puller.Job) {
				d.Helper()
				v, err := d.Wait(d.Context(), parent.ID)
				if err != nil {
					d.Fatal(err)
				}
				want := []string{"succeeded", "failed not_found", "succeeded", "skipped"}
				if !slices.Equal(v.Children, parent.Children) || !slices.Equal(images(v), want) || v.State != puller.StateFailed || v.Error.Kind != puller.ErrNotFound {
					d.Errorf("it ended as %+v", v)
				}
				if v.Images[0].Image != nth(0) || v.Images[0].Job != parent.Children[0] || v.Images[0].Source == "" || v.Images[3].Service != "app" {
					d.Errorf("the images are %+v", v.Images)
				}
				if _, err := d.Cancel(parent.ID); puller.KindOf(err) != puller.ErrConflict {
					d.Errorf("it was canceled after its end: %v", err)
				}
				// What was told before is told after, once.
				events := d.events(parent)
				if got := numbered(events); got[0] != "state queued" || got[len(got)-1] != "result" || strings.Count(strings.Join(got, ","), "result") != 1 {
					d.Errorf("the numbered events are %q", got)
				}
			}
			request := with(puller.PrewarmRequest{
				Policy: puller.PolicyAlways,
				Images: puller.Images{{Image: nth(0)}, {Image: nth(1)}, {Image: nth(2)}},
			}, func(r *puller.PrewarmRequest) { r.Skipped = []puller.Skipped{{Service: "app", Reason: "built"}} })
			t.Run("before any has begun", func(t *testing.T) {
				withDaemonOf(t, single, nil, func(d *daemon) {
					release := d.hold(good)
					d.inState(d.pullAlways(good), puller.StateActive, puller.PhasePulling)
					parent := d.prewarm(request)
					d.serve(nth(0))
					d.serve(nth(2))
					d.inState(parent, puller.StateActive, puller.PhasePulling)
					c.end(d)
					release()
					check(d, parent)
				})
			})
			t.Run("after some have ended", func(t *testing.T) {
				withDaemonOf(t, single, nil, func(d *daemon) {
					d.serve(nth(0))
					release := d.hold(nth(2))
					parent := d.prewarm(request)
					d.inState(d.child(parent, 2), puller.StateActive, puller.PhasePulling)
					d.succeeded(d.child(parent, 0), puller.SourcePulled)
					begun := d.engine.Counts().Pulls
					c.end(d)
					d.inState(d.child(parent, 2), puller.StateActive, puller.PhasePulling)
					d.wantPulls(begun + 1) // those that ended are not begun again
					if got := images(d.settled(parent)); !slices.Equal(got, []string{"succeeded", "failed not_found", "active", "skipped"}) {
						t.Errorf("the images are %q", got)
					}
					release()
					check(d, parent)
				})
			})
			t.Run("after all have ended", func(t *testing.T) {
				withDaemonOf(t, single, nil, func(d *daemon) {
					d.serve(nth(0))
					release := d.hold(nth(2))
					parent := d.prewarm(request)
					d.inState(d.child(parent, 2), puller.StateActive, puller.PhasePulling)
					// The last child's end is kept, and what follows is not.
					<-time.After(time.Second)
					release()
					d.end(d.child(parent, 2))
					d.crash()
					check(d, parent)
				})
			})
		})
	}
}

func testPrewarmRestartFailFast(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		release := d.hold(nth(1))
		parent := d.prewarmOf(true, nth(1), nth(0), nth(2))
		d.inState(d.child(parent, 0), puller.StateActive, puller.PhasePulling)
		d.crash()
		d.hold(nth(2))
		d.engine.Script(nth(0), func(p *enginetest.Pull) { p.Wait(time.Second); p.Fail("manifest unknown") })
		release()
		v := d.failed(parent, puller.ErrNotFound)
		if got := images(v); !slices.Equal(got, []string{"succeeded", "failed not_found", "canceled canceled"}) {
			t.Errorf("the images are %q", got)
		}
	})
}

// The power goes after a failure is on disk, but before the others are canceled.
func testPrewarmRestartFailFastHalfway(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		var kept *storetest.Store // what is there after the first end
		ended := false
		d.store.OnSave(func(records []store.Record) {
			if ended && kept == nil {
				kept = d.store.Reopen()
			}
			ended = ended || slices.ContainsFunc(records, func(r store.Record) bool { return r.Job.State.Ended() })
		})
		d.hold(nth(1))
		d.hold(nth(2))
		parent := d.prewarmOf(true, nth(0), nth(1), nth(2))
		d.failed(parent, puller.ErrNotFound)
		d.close()
		d.store = kept
		d.open()
		if _, err := d.Job(parent.ID); err != nil {
			t.Fatal(err)
		}
		v := d.failed(parent, puller.ErrNotFound)
		if got := images(v); !slices.Equal(got, []string{"failed not_found", "canceled canceled", "canceled canceled"}) {
			t.Errorf("the images are %q", got)
		}
	})
}

// So many jobs are kept, and a prewarm may have more.
func testPrewarmChildrenForgotten(t *testing.T) {
	o := single
	o.KeepJobs, o.Timeout = 1, 24*time.Hour
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.serve(nth(0))
		d.serve(nth(1))
		release := d.hold(nth(2))
		parent := d.prewarmOf(false, nth(0), nth(1), nth(2))
		d.inState(d.child(parent, 2), puller.StateActive, puller.PhasePulling)
		<-time.After(2 * time.Hour) // beyond a pruning
		d.restart()
		release()
		v := d.succeeded(parent, "")
		if got := images(v); !slices.Equal(got, []string{"succeeded", "succeeded", "succeeded"}) {
			t.Errorf("the images are %q", got)
		}
	})
}

func testPrewarmRestartWithCredentials(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		d.hold(nth(0))
		d.engine.Tag(nth(1), enginetest.NewImage(nth(1), 1))
		parent := d.prewarm(puller.PrewarmRequest{
			Images: puller.Images{{Image: nth(0)}, {Image: nth(1), Policy: puller.PolicyAlways}, {Image: nth(2)}}, Credentials: credentials(t, "secret"),
		})
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		d.crash()
		v := d.failed(parent, puller.ErrDenied)
		if got := images(v); !slices.Equal(got, []string{"failed denied", "succeeded", "failed denied"}) {
			t.Errorf("the images are %q", got)
		}
	})
}

func testPrewarmEngineAway(t *testing.T) {
	withDaemonOf(t, patient, nil, func(d *daemon) {
		d.engine.Kill()
		d.serve(other)
		parent := d.prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}, {Image: other}}})
		d.inState(parent, puller.StateActive, puller.PhasePulling)
		d.back(10 * time.Second)
		d.succeeded(parent, "")
	})
}

// The time of a prewarm's images does not run while they wait for their turn.
func testPrewarmLongEnds(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		r := puller.PrewarmRequest{Timeout: puller.Duration(time.Minute)}
		for n := range 10 {
			serves := enginetest.Serve(enginetest.NewImage(nth(n), n+1))
			d.engine.Script(nth(n), func(p *enginetest.Pull) { p.Wait(50 * time.Second); serves(p) })
			r.Images = append(r.Images, puller.PullRequest{Image: nth(n)})
		}
		d.engine.Script(nth(9), func(p *enginetest.Pull) { <-p.Gone() })
		v := d.failed(d.prewarm(r), puller.ErrTimeout)
		if got := images(v); got[8] != "succeeded" || got[9] != "failed timeout" {
			t.Errorf("the images are %q", got)
		}
	})
}

// Two callers prewarm the same engine: the one with the short list, of images that the
// long one ends with, is served in between.
func testPrewarmLongAndShort(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		long := with(puller.PrewarmRequest{Policy: puller.PolicyAlways}, func(r *puller.PrewarmRequest) { r.Caller = "uid 1" })
		slow := func(image string) {
			serves := enginetest.Serve(enginetest.NewImage(image, 1))
			d.engine.Script(image, func(p *enginetest.Pull) { p.Wait(time.Second); serves(p) })
		}
		for n := range 40 {
			slow(nth(n))
			long.Images = append(long.Images, puller.PullRequest{Image: nth(n)})
		}
		slow(good)
		first := d.prewarm(long)
		d.inState(first, puller.StateActive, puller.PhasePulling)
		second := d.prewarm(with(puller.PrewarmRequest{
			Policy: puller.PolicyAlways, Images: puller.Images{{Image: good}, {Image: nth(39)}, {Image: nth(38)}},
		}, func(r *puller.PrewarmRequest) { r.Caller = "uid 2" }))
		d.succeeded(second, "")
		if ended := d.engine.Counts().Pulls; ended > 10 {
			t.Errorf("the short one has ended after %d pulls", ended)
		}
		d.succeeded(first, "")
		d.wantPulls(41)
	})
}

// Prewarms as long as they may be. What costs the square of it is seen by its
// time.
func testPrewarmManyLong(t *testing.T) {
	o := defaults
	o.Concurrency = 8
	withDaemonOf(t, o, func(engine engines.Engine) engines.Engine { return instant{engine} }, func(d *daemon) {
		var parents []puller.Job
		for i := range 3 {
			r := with(puller.PrewarmRequest{Policy: puller.PolicyAlways}, func(r *puller.PrewarmRequest) { r.Caller = fmt.Sprint(i % 3) })
			for n := range 60 {
				r.Images = append(r.Images, puller.PullRequest{Image: fmt.Sprintf("registry.test/image%d-%d:v1", i, n)})
			}
			parent, err := d.Prewarm(r)
			if err != nil {
				t.Fatal(err)
			}
			parents = append(parents, parent)
		}
		for _, parent := range parents[:1] {
			d.succeeded(parent, "")
		}
		d.restart()
		for _, parent := range parents[1:] {
			d.succeeded(parent, "")
		}
	})
}

// instant is an engine that has every image as soon as it is pulled.
type instant struct{ engines.Engine }

func (instant) Pull(_ context.Context, p puller.Pull, each func(pullstream.Message)) error {
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(p.Image)))[:12]
	each(pullstream.Message{ID: id, Status: "Downloading", Detail: pullstream.Detail{Current: 300, Total: 400}})
	each(pullstream.Message{ID: id, Status: "Pull complete"})
	each(pullstream.Message{Status: "Status: Downloaded newer image for " + p.Image})
	return nil
}

func (instant) Inspect(_ context.Context, image, _ string) (puller.Image, error) {
	return enginetest.NewImage(image, 1), nil
}

// What is decoded is what a request's images may be.
func FuzzImages(f *testing.F) {
	for _, seed := range []string{`["a","b:1"]`, `[{"image":"a","retries":1}]`, `[null]`, `[[]]`, `{}`, `["\ud800"]`, `[{"image":"a","timeout":"5"}]`, ` [ "a" , {} ]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var list puller.Images
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			if list != nil {
				t.Errorf("%v, and %+v", err, list)
			}
			return
		}
		again, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var same puller.Images
		if err := json.Unmarshal(again, &same); err != nil || len(same) != len(list) {
			t.Errorf("%q became %s: %v", body, again, err)
		}
	})
}
