package jobs_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream"
)

// watcher has what a reader of all jobs was told.
type watcher struct {
	d      *daemon
	l      *stream.LogSubscription
	events []puller.Event
}

func (d *daemon) newWatcher(kind, image string, since *uint64) *watcher {
	d.Helper()
	frames, l, err := d.WatchAll(kind, image, since)
	if err != nil {
		d.Fatal(err)
	}
	o := &watcher{d: d, l: l}
	o.take(frames)
	return o
}

func (o *watcher) take(frames []stream.Frame) {
	o.d.Helper()
	for _, f := range frames {
		var e puller.Event
		if err := f.Decode(&e); err != nil {
			o.d.Fatal(err)
		}
		o.events = append(o.events, e)
	}
}

// all reads until there is nothing new for a minute, or the end.
func (o *watcher) all() []puller.Event {
	o.d.Helper()
	return o.read(time.Minute)
}

// present reads what there is now.
func (o *watcher) present() []puller.Event {
	o.d.Helper()
	return o.read(0)
}

func (o *watcher) read(wait time.Duration) []puller.Event {
	o.d.Helper()
	for {
		b, err := o.l.Next(o.d.Context(), wait)
		if err == io.EOF || b == nil && err == nil {
			return o.events
		}
		if err != nil {
			o.d.Fatal(err)
		}
		o.take(b.Frames())
	}
}

func seqs(events []puller.Event) (all []uint64) {
	for _, e := range events {
		if e.Seq != 0 {
			all = append(all, e.Seq)
		}
	}
	return all
}

func (d *daemon) checkWatchers(what string, events []puller.Event) {
	d.Helper()
	all := seqs(events)
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		d.Errorf("%s: the numbers are %d", what, all)
	}
}

func TestWatchAll(t *testing.T) {
	t.Parallel()
	t.Run("resume after restart", testWatchAllResumeAfterRestart)
	t.Run("snapshot", testWatchAllSnapshot)
	t.Run("bad filter", testWatchAllBadFilter)
}

// A reader of the events of all jobs that comes back after any event, also after a
// restart, gets each later one once.
func testWatchAllResumeAfterRestart(t *testing.T) {
	for _, how := range []string{"restart", "crash"} {
		withDaemon(t, func(d *daemon) {
			gate := make(chan struct{})
			d.engine.Script("slow", func(p *enginetest.Pull) {
				if p.Until(gate) {
					enginetest.Serve(enginetest.NewImage("slow", 9))(p)
				}
			})
			o := d.newWatcher("", "", nil)
			for i := range 3 {
				name := fmt.Sprint("image-", i)
				d.engine.Script(name, enginetest.Serve(enginetest.NewImage(name, i+1)))
				d.end(d.submit(puller.PullRequest{Image: name}))
			}
			slow := d.submit(puller.PullRequest{Image: "slow"})
			<-time.After(time.Second)
			before := o.all()
			d.checkWatchers("before", before)
			if how == "crash" {
				d.crash()
			} else {
				d.restart()
			}
			close(gate)
			d.end(slow)
			last := seqs(before)[len(seqs(before))-1]
			after := seqs(d.newWatcher("", "", &last).all())
			if len(after) < 4 || after[0] <= last {
				d.Errorf("%s: after %d come %d", how, last, after)
			}
			want := append(seqs(before), after...)
			first := slices.IndexFunc(before, func(e puller.Event) bool { return e.Type == "result" })
			for i, n := range want {
				got := d.newWatcher("", "", &n).all()
				switch {
				case n >= before[first].Seq: // of the earlier ones, some may be gone
					if !slices.Equal(seqs(got), want[i+1:]) {
						d.Errorf("%s: after %d come %d, want %d", how, n, seqs(got), want[i+1:])
					}
				case got[0].Type != "notice" || got[0].Seq != 0:
					d.Errorf("%s: after %d comes %+v first", how, n, got[0])
				}
			}
		})
	}
}

// The present state of the jobs there are comes first, and no number twice.
func testWatchAllSnapshot(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		gate := make(chan struct{})
		d.engine.Script("slow", func(p *enginetest.Pull) {
			p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":1000},"id":"aaaaaaaaaaaa"}`)
			if p.Until(gate) {
				enginetest.Serve(enginetest.NewImage("slow", 9))(p)
			}
		})
		a, b := d.submit(puller.PullRequest{Image: "slow"}), d.submit(puller.PullRequest{Image: "slow"})
		<-time.After(time.Second)
		o := d.newWatcher("pull", "slow", nil)
		var types []string
		for _, e := range o.present() {
			types = append(types, e.Type)
			if e.Type == "layer" && e.Job != a.ID && e.Job != b.ID {
				d.Errorf("a layer is told in the name of %q", e.Job)
			}
		}
		if !slices.Equal(types, []string{"state", "state", "layer"}) {
			d.Errorf("the present state is %q", types)
		}
		if _, err := d.Cancel(a.ID); err != nil {
			d.Fatal(err)
		}
		later := d.newWatcher("", "", nil)
		for _, e := range later.present() {
			if e.Job != b.ID {
				d.Errorf("when the first has gone, there is a %s of %s", e.Type, e.Job)
			}
		}
		close(gate)
		d.end(b)
		d.checkWatchers("all", o.all())
		if last := o.events[len(o.events)-1]; last.Type != "result" || last.Job != b.ID || last.Result == nil {
			d.Errorf("the last is %+v", last)
		}
	})
}

func testWatchAllBadFilter(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		for _, f := range [][2]string{{"push", ""}, {"", "A B"}} {
			if _, _, err := d.WatchAll(f[0], f[1], nil); puller.KindOf(err) != puller.ErrInvalidRequest {
				d.Errorf("%q: %v", f, err)
			}
		}
	})
}
