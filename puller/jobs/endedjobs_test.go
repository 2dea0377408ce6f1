package jobs_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// A job that is there from the first page to the last is on one of them,
// whatever ends, comes and leaves memory meanwhile.
func TestListPagesWhileJobsEnd(t *testing.T) {
	o := once
	o.Concurrency = 16
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(other, d.serve(other))
		var there []string
		for range 110 {
			there = append(there, d.submitted(other).ID)
		}
		for i := range 30 {
			image := fmt.Sprintf("registry.test/image%d:v1", i)
			serve := enginetest.Serve(enginetest.NewImage(image, i+1))
			d.engine.Script(image, func(p *enginetest.Pull) {
				if p.Wait(time.Duration(rand.IntN(1000)) * time.Millisecond) {
					serve(p)
				}
			})
			j, err := d.Pull(puller.PullRequest{Image: image, Policy: puller.PolicyAlways})
			if err != nil {
				d.Fatal(err)
			}
			there = append(there, j.ID)
		}
		slices.Reverse(there)
		var walks sync.WaitGroup
		var ended atomic.Bool
		for _, f := range []puller.Filter{{Kind: puller.JobPull}, {Limit: 7}, {Limit: 19}} {
			walks.Go(func() {
				for !ended.Load() {
					var got []string
					for f.Cursor = ""; ; {
						page, next, err := d.Jobs(f)
						if err != nil {
							d.Error(err)
							return
						}
						for _, v := range page {
							got = append(got, v.ID)
						}
						// Time passes between the pages: the more, the larger they are.
						<-time.After(time.Duration(rand.IntN(4*max(len(page), 1))) * time.Millisecond)
						if f.Cursor = next; next == "" {
							break
						}
					}
					old := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return id > there[0] })
					if !slices.Equal(old, there) || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
						d.Errorf("%+v: %d jobs of %d, %d in all", f, len(old), len(there), len(got))
						return
					}
				}
			})
		}
		for range 15 {
			<-time.After(150 * time.Millisecond)
			d.submitted(other)
		}
		ended.Store(true)
		walks.Wait()
		counts := map[puller.State]int{}
		for _, state := range []puller.State{puller.StateQueued, puller.StateActive, puller.StateSucceeded, puller.StateFailed, puller.StateCanceled} {
			page, next, err := d.Jobs(puller.Filter{State: state, Limit: 1000})
			if err != nil || next != "" {
				d.Error(next, err)
			}
			counts[state] = len(page)
		}
		if counts[puller.StateSucceeded] != len(there)+15 || len(counts) != 5 || counts[puller.StateActive]+counts[puller.StateQueued] != 0 {
			d.Errorf("there are %v", counts)
		}
	})
}

func TestRetentionOfLayers(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		j := d.pullAlways(good)
		d.succeeded(j, puller.SourcePulled)
		is := d.record(j)
		layers := func() (n int) {
			d.readers = map[string]*reader{}
			for _, e := range d.events(j) {
				if e.Type == "layer" {
					n++
				}
			}
			return n
		}
		if n := layers(); n != 2 {
			d.Errorf("a late reader gets %d layers", n)
		}
		for range 100 {
			d.submitted(good)
		}
		if n := layers(); n != 0 {
			d.Errorf("long after, a reader gets %d layers", n)
		}
		if again := d.record(j); again != is {
			d.Errorf("long after, it is\n%s\nnot\n%s", again, is)
		}
	})
}

func TestRetentionByAge(t *testing.T) {
	o := once
	o.KeepFor = 3 * time.Hour
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(other, d.serve(other))
		d.hold(good)
		active := d.submit(puller.PullRequest{Image: good, Timeout: puller.Duration(24 * time.Hour)})
		old := d.submitted(other)
		<-time.After(2 * time.Hour)
		young := d.submitted(other)
		for range 150 {
			d.submitted(other) // neither is in memory any more
		}
		<-time.After(59 * time.Minute)
		for _, j := range []puller.Job{old, young} {
			if _, err := d.Job(j.ID); err != nil {
				d.Errorf("it was dropped too early: %v", err)
			}
		}
		<-time.After(62 * time.Minute)
		if _, err := d.Job(old.ID); puller.KindOf(err) != puller.ErrNotFound {
			d.Errorf("it was not dropped in time: %v", err)
		}
		if _, err := d.Job(young.ID); err != nil {
			d.Errorf("it was dropped with the older one: %v", err)
		}
		<-time.After(10 * time.Hour)
		d.restart()
		if ids := d.listed(); !slices.Equal(ids, []string{active.ID}) {
			d.Errorf("in the end there are %q", ids)
		}
		d.inState(active, puller.StateActive, puller.PhasePulling)
	})
}

func TestRetentionByCount(t *testing.T) {
	o := once
	o.KeepJobs = 5
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(other, d.serve(other))
		d.hold(good)
		active := d.submit(puller.PullRequest{Image: good, Timeout: puller.Duration(24 * time.Hour)})
		var want []string
		for range 20 {
			want = append(want, d.submitted(other).ID)
		}
		<-time.After(time.Hour + time.Minute)
		d.crash() // memory shows more of them
		want = append([]string{active.ID}, want[15:]...)
		slices.Reverse(want)
		if ids := d.listed(); !slices.Equal(ids, want) {
			d.Errorf("there are %q, not %q", ids, want)
		}
	})
}

// Under the race detector: a job may end while the engine is asked for it.
func TestCancelDuringCheck(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.OnInspect(func(string, <-chan struct{}) (int, string) { return 0, "" })
		d.serve(good)
		var work sync.WaitGroup
		for range 200 {
			work.Go(func() {
				j, err := d.Pull(puller.PullRequest{Image: good, IdempotencyKey: fmt.Sprint(rand.IntN(50))})
				if err == nil {
					d.Cancel(j.ID)
				}
			})
		}
		work.Wait()
		synctest.Wait()
		for _, id := range d.listed() {
			if v := d.end(puller.Job{ID: id}); v.State != puller.StateCanceled && v.State != puller.StateSucceeded {
				d.Errorf("a job is %s: %+v", v.State, v.Error)
			}
		}
		d.wantAborted(d.engine.Counts().Aborted) // none goes on
	})
}

func TestIdempotencyKeyMemory(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		keyed := puller.PullRequest{Image: good, IdempotencyKey: "ci-1"}
		j := d.submit(keyed)
		d.succeeded(j, puller.SourcePulled)
		objects := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapObjects
		}
		before := objects()
		for range 1000 {
			if again, err := d.Pull(keyed); err != nil || again.ID != j.ID {
				d.Fatalf("%+v, %v", again, err)
			}
		}
		if after := objects(); after > before+1000 {
			d.Errorf("1000 of them left %d objects", after-before)
		}
	})
}
