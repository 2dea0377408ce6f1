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

// overheard is what a reader of all jobs was told.
type overheard struct {
	y      *daemon
	l      *stream.LogSubscription
	events []puller.Event
}

func (y *daemon) overhear(kind, image string, since *uint64) *overheard {
	y.Helper()
	frames, l, err := y.WatchAll(kind, image, since)
	if err != nil {
		y.Fatal(err)
	}
	o := &overheard{y: y, l: l}
	o.take(frames)
	return o
}

func (o *overheard) take(frames []stream.Frame) {
	o.y.Helper()
	for _, f := range frames {
		var e puller.Event
		if err := f.Decode(&e); err != nil {
			o.y.Fatal(err)
		}
		o.events = append(o.events, e)
	}
}

// all reads until there is nothing new for a minute, or the end.
func (o *overheard) all() []puller.Event {
	o.y.Helper()
	return o.read(time.Minute)
}

// present reads what there is now.
func (o *overheard) present() []puller.Event {
	o.y.Helper()
	return o.read(0)
}

func (o *overheard) read(wait time.Duration) []puller.Event {
	o.y.Helper()
	for {
		b, err := o.l.Next(o.y.Context(), wait)
		if err == io.EOF || b == nil && err == nil {
			return o.events
		}
		if err != nil {
			o.y.Fatal(err)
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

func (y *daemon) checkOverheard(what string, events []puller.Event) {
	y.Helper()
	all := seqs(events)
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
		y.Errorf("%s: the numbers are %d", what, all)
	}
}

// Whoever reads the events of all jobs, and comes back after any of them, also
// after a restart, is told each later one once.
func TestWatchAllResumeAfterRestart(t *testing.T) {
	for _, how := range []string{"restart", "crash"} {
		withDaemon(t, func(y *daemon) {
			gate := make(chan struct{})
			y.engine.Script("slow", func(p *enginetest.Pull) {
				if p.Until(gate) {
					enginetest.Serve(enginetest.NewImage("slow", 9))(p)
				}
			})
			o := y.overhear("", "", nil)
			for i := range 3 {
				name := fmt.Sprint("image-", i)
				y.engine.Script(name, enginetest.Serve(enginetest.NewImage(name, i+1)))
				y.end(y.submit(puller.PullRequest{Image: name}))
			}
			slow := y.submit(puller.PullRequest{Image: "slow"})
			<-time.After(time.Second)
			before := o.all()
			y.checkOverheard("before", before)
			if how == "crash" {
				y.crash()
			} else {
				y.restart()
			}
			close(gate)
			y.end(slow)
			last := seqs(before)[len(seqs(before))-1]
			after := seqs(y.overhear("", "", &last).all())
			if len(after) < 4 || after[0] <= last {
				y.Errorf("%s: after %d come %d", how, last, after)
			}
			want := append(seqs(before), after...)
			first := slices.IndexFunc(before, func(e puller.Event) bool { return e.Type == "result" })
			for i, n := range want {
				got := y.overhear("", "", &n).all()
				switch {
				case n >= before[first].Seq: // of before that, others may be gone
					if !slices.Equal(seqs(got), want[i+1:]) {
						y.Errorf("%s: after %d come %d, want %d", how, n, seqs(got), want[i+1:])
					}
				case got[0].Type != "notice" || got[0].Seq != 0:
					y.Errorf("%s: after %d comes %+v first", how, n, got[0])
				}
			}
		})
	}
}

// The present state of the jobs there are comes first, and no number twice.
func TestWatchAllSnapshot(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		gate := make(chan struct{})
		y.engine.Script("slow", func(p *enginetest.Pull) {
			p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":1000},"id":"aaaaaaaaaaaa"}`)
			if p.Until(gate) {
				enginetest.Serve(enginetest.NewImage("slow", 9))(p)
			}
		})
		a, b := y.submit(puller.PullRequest{Image: "slow"}), y.submit(puller.PullRequest{Image: "slow"})
		<-time.After(time.Second)
		o := y.overhear("pull", "slow", nil)
		var types []string
		for _, e := range o.present() {
			types = append(types, e.Type)
			if e.Type == "layer" && e.Job != a.ID && e.Job != b.ID {
				y.Errorf("a layer is told in the name of %q", e.Job)
			}
		}
		if !slices.Equal(types, []string{"state", "state", "layer"}) {
			y.Errorf("the present state is %q", types)
		}
		if _, err := y.Cancel(a.ID); err != nil {
			y.Fatal(err)
		}
		later := y.overhear("", "", nil)
		for _, e := range later.present() {
			if e.Job != b.ID {
				y.Errorf("when the first has gone, %s is told of %s", e.Type, e.Job)
			}
		}
		close(gate)
		y.end(b)
		y.checkOverheard("all", o.all())
		if last := o.events[len(o.events)-1]; last.Type != "result" || last.Job != b.ID || last.Result == nil {
			y.Errorf("the last is %+v", last)
		}
	})
}

func TestWatchAllBadFilter(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		for _, f := range [][2]string{{"push", ""}, {"", "A B"}} {
			if _, _, err := y.WatchAll(f[0], f[1], nil); puller.KindOf(err) != puller.ErrInvalidRequest {
				y.Errorf("%q: %v", f, err)
			}
		}
	})
}
