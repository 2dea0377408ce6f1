package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream"
)

var errFull = errors.New("no space left on device")

// block holds up what the store is to save until open is called, and counts it.
func (d *daemon) block() (open func(), saves *atomic.Int32) {
	gate := make(chan struct{})
	saves = new(atomic.Int32)
	d.store.OnSave(func([]store.Record) {
		saves.Add(1)
		<-gate
	})
	open = sync.OnceFunc(func() { close(gate) })
	d.Cleanup(open) // before the Service is closed
	return open, saves
}

// answer is what came of a call, once it has returned.
type answer struct {
	returned bool
	job      puller.Job
	err      error
}

// calling makes a call; what it returned is known once nothing moves.
func calling(call func() (puller.Job, error)) func() answer {
	var a answer
	var mu sync.Mutex
	go func() {
		j, err := call()
		mu.Lock()
		defer mu.Unlock()
		a = answer{true, j, err}
	}()
	return func() answer {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return a
	}
}

func (d *daemon) submitting(r puller.PullRequest) func() answer {
	return calling(func() (puller.Job, error) { return d.Pull(r) })
}

// Listed returns the IDs of all jobs.
func (d *daemon) listed() (ids []string) {
	d.Helper()
	var f puller.Filter
	for {
		page, next, err := d.Jobs(f)
		if err != nil {
			d.Fatal(err)
		}
		for _, v := range page {
			ids = append(ids, v.ID)
		}
		if f.Cursor = next; next == "" {
			return ids
		}
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	t.Run("accepts when saved", testWriterAcceptsWhenSaved)
	t.Run("store fails", testWriterStoreFails)
	t.Run("retries save", testWriterRetriesSave)
	t.Run("result when saved", testWriterResultWhenSaved)
	t.Run("batch", testWriterBatch)
	t.Run("last save", testWriterLastSave)
	t.Run("close store hangs", testWriterCloseStoreHangs)
	t.Run("store damaged", testWriterStoreDamaged)
	t.Run("store read only", testWriterStoreReadOnly)
	t.Run("many in one batch", testWriterManyInOneBatch)
	t.Run("no wait alone", testWriterNoWaitAlone)
}

func testWriterAcceptsWhenSaved(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		open, _ := d.block()
		submitted := d.submitting(puller.PullRequest{Image: good, Policy: puller.PolicyAlways})
		if a := submitted(); a.returned {
			d.Fatalf("Submit returned %+v, %v before that", a.job, a.err)
		}
		if ids := d.listed(); len(ids) != 0 {
			d.Errorf("the job is listed before that: %q", ids)
		}
		if c := d.engine.Counts(); c.Pulls+c.Inspects != 0 {
			d.Errorf("the engine was asked before that: %+v", c)
		}
		open()
		a := submitted()
		if a.err != nil {
			d.Fatal(a.err)
		}
		d.succeeded(a.job, puller.SourcePulled)
	})
}

func testWriterStoreFails(t *testing.T) {
	o := single
	o.MaxPerCaller = 100
	withDaemonOf(t, o, nil, func(d *daemon) {
		release := d.hold(good)
		running := d.pullAlways(good)
		queued := d.pullAlways(other)
		d.inState(running, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		before := d.listed()

		d.store.Fail(errFull)
		keyed := puller.PullRequest{Image: other, Policy: puller.PolicyAlways, IdempotencyKey: "ci-1"}
		list := make(puller.Images, 60)
		for i := range list {
			list[i].Image = other
		}
		for range 3 { // together more than the caller may have at a time
			_, err := d.Prewarm(puller.PrewarmRequest{Images: list})
			if puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), errFull.Error()) {
				d.Fatalf("a prewarm that could not be written: %v", err)
			}
		}
		if _, err := d.Pull(keyed); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), errFull.Error()) {
			d.Errorf("a job that could not be written: %v", err)
		}
		if err := d.Ready(); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), errFull.Error()) {
			d.Errorf("it is ready but for %v", err)
		}
		if after := d.listed(); fmt.Sprint(after) != fmt.Sprint(before) {
			d.Errorf("there are jobs %q, not %q", after, before)
		}
		release()
		d.succeeded(running, puller.SourcePulled) // told, though it can't be written
		d.events(running)
		if r, err := d.store.Record(running.ID); err != nil || r.Job.State.Ended() {
			d.Errorf("the store has %+v, %v", r.Job, err)
		}
		d.failed(queued, puller.ErrNotFound)

		d.store.Fail(nil)
		<-time.After(2 * time.Second)
		if err := d.Ready(); err != nil {
			d.Error(err)
		}
		kept := d.record(running)
		d.crash()
		if again := d.record(running); again != kept {
			d.Errorf("after the crash it is\n%s\nnot\n%s", again, kept)
		}
		d.serve(other)
		j := d.submit(keyed)
		d.succeeded(j, puller.SourcePulled)
		if _, err := d.Prewarm(puller.PrewarmRequest{Images: list}); err != nil {
			d.Error(err)
		}
	})
}

func testWriterRetriesSave(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.store.Fail(errFull)
		for range 50 {
			d.Pull(puller.PullRequest{Image: good})
			<-time.After(17 * time.Millisecond)
		}
		var saves atomic.Int32
		d.store.OnSave(func([]store.Record) { saves.Add(1) })
		<-time.After(time.Minute)
		if n := saves.Load(); n < 59 || n > 61 {
			d.Errorf("in a minute it was tried %d times", n)
		}
		d.store.Fail(nil)
		<-time.After(time.Minute)
		if n := saves.Load(); n > 62 {
			d.Errorf("after it was well again it was given nothing %d times", n-61)
		}
	})
}

func testWriterResultWhenSaved(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		keyed := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, IdempotencyKey: "ci-1"}
		j := d.submit(keyed)
		d.hold(other)
		gone := d.pullAlways(other)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		d.inState(gone, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		_, sub, err := d.Watch(j.ID, nil)
		if err != nil {
			d.Fatal(err)
		}

		open, _ := d.block()
		release()
		synctest.Wait()
		waited := calling(func() (puller.Job, error) { return d.Wait(d.Context(), j.ID) })
		canceled := calling(func() (puller.Job, error) { return d.Cancel(gone.ID) })
		late := calling(func() (puller.Job, error) { return d.Cancel(j.ID) })
		for name, call := range map[string]func() answer{"Wait": waited, "Cancel": canceled, "Cancel of what has ended": late} {
			if a := call(); a.returned {
				d.Errorf("%s returned %+v, %v before that", name, a.job, a.err)
			}
		}
		for _, v := range []puller.Job{d.settled(j), d.settled(gone)} {
			if v.State != puller.StateActive {
				d.Errorf("the job is %s before that", v.State)
			}
		}
		if again, err := d.Pull(keyed); err != nil || again.ID != j.ID || again.State != puller.StateActive {
			d.Errorf("sent again it is %+v, %v", again, err)
		}
		for {
			frames, err := next(d.Context(), sub, time.Millisecond)
			if err != nil {
				d.Fatal(err)
			}
			if len(frames) == 0 {
				break
			}
			for _, f := range frames {
				if line := string(stream.NDJSON.Append(nil, &f, j.ID)); f.Type == "result" || strings.Contains(line, `"succeeded"`) {
					d.Errorf("before that a reader is told %s", line)
				}
			}
		}

		open()
		if a := waited(); a.err != nil || a.job.State != puller.StateSucceeded {
			d.Errorf("Wait returned %+v, %v", a.job, a.err)
		}
		if a := canceled(); a.err != nil || a.job.State != puller.StateCanceled {
			d.Errorf("Cancel returned %+v, %v", a.job, a.err)
		}
		if a := late(); puller.KindOf(a.err) != puller.ErrConflict {
			d.Errorf("Cancel of what has ended returned %+v, %v", a.job, a.err)
		}
	})
}

func testWriterBatch(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.Tag(good, d.serve(good))
		open, saves := d.block()
		var submitted []func() answer
		for range 64 {
			submitted = append(submitted, d.submitting(puller.PullRequest{Image: good}))
		}
		synctest.Wait()
		if n := saves.Load(); n != 1 {
			d.Errorf("there are %d saves at a time", n)
		}
		// What ends, ends later: its save is not counted.
		d.engine.OnInspect(func(string, <-chan struct{}) (int, string) { <-time.After(time.Second); return 0, "" })
		open()
		for _, call := range submitted {
			if a := call(); a.err != nil {
				d.Fatal(a.err)
			}
		}
		if n := saves.Load(); n > 2 {
			d.Errorf("64 jobs took %d saves", n)
		}
		for _, call := range submitted {
			d.succeeded(call().job, puller.SourcePresent)
		}
	})
}

func TestIdempotencyKeyConcurrent(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{nil, errFull} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				d.serve(good)
				open, _ := d.block()
				keyed := puller.PullRequest{Image: good, IdempotencyKey: "ci-1"}
				calls := []func() answer{d.submitting(keyed), d.submitting(keyed), d.submitting(keyed)}
				unlike := d.submitting(puller.PullRequest{Image: other, IdempotencyKey: "ci-1"})
				if unlike().returned {
					d.Error("another request with the key was answered before it was known whether the first was accepted")
				}
				d.store.Fail(fault)
				open()
				if fault != nil {
					for _, call := range append(calls, unlike) {
						if a := call(); puller.KindOf(a.err) != puller.ErrOverloaded {
							d.Errorf("it was answered with %+v, %v", a.job, a.err)
						}
					}
					d.store.Fail(nil)
					d.succeeded(d.submit(keyed), puller.SourcePulled)
					return
				}
				// Whichever came first has the key.
				var ids []string
				conflicts := 0
				for _, call := range append(calls, unlike) {
					if a := call(); puller.KindOf(a.err) == puller.ErrConflict {
						conflicts++
					} else if a.err != nil {
						d.Error(a.err)
					} else {
						ids = append(ids, a.job.ID)
					}
				}
				if listed := d.listed(); len(listed) != 1 || conflicts+len(ids) != 4 || conflicts != 1 && conflicts != 3 {
					d.Errorf("there are jobs %q, given %q, and %d conflicts", listed, ids, conflicts)
				}
			})
		})
	}
}

// What comes and ends with the last writing is answered as it is on disk.
func testWriterLastSave(t *testing.T) {
	for range 12 { // there are two ways to be told
		withDaemon(t, func(d *daemon) {
			d.hold(good)
			gone := d.pullAlways(good)
			d.inState(gone, puller.StateActive, puller.PhasePulling)
			<-time.After(time.Second)
			open, _ := d.block()
			first := d.submitting(puller.PullRequest{Image: other})
			first() // keeps the store busy
			var submitted []func() answer
			for range 8 {
				submitted = append(submitted, d.submitting(puller.PullRequest{Image: other}))
			}
			canceled := calling(func() (puller.Job, error) { return d.Cancel(gone.ID) })
			canceled()
			closed := calling(func() (puller.Job, error) { return puller.Job{}, d.Close(d.Context()) })
			if closed().returned {
				d.Error("Close did not wait for the store")
			}
			open()
			if a := closed(); !a.returned || a.err != nil {
				d.Errorf("Close returned %v", a.err)
			}
			if a := canceled(); a.err != nil || a.job.State != puller.StateCanceled {
				d.Errorf("Cancel returned %+v, %v", a.job, a.err)
			}
			d.serve(other)
			d.open()
			for _, call := range append(submitted, first) {
				a := call()
				if a.err != nil {
					d.Fatalf("it is on disk, but was answered with %v", a.err)
				}
				if v := d.end(a.job); v.State != puller.StateSucceeded {
					d.Errorf("it ended as %s: %+v", v.State, v.Error)
				}
			}
			if n := len(d.listed()); n != 10 {
				d.Errorf("there are %d jobs", n)
			}
		})
	}
}

func testWriterCloseStoreHangs(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		open, _ := d.block()
		defer open()
		submitted := d.submitting(puller.PullRequest{Image: good})
		submitted()
		ctx, cancel := context.WithTimeout(d.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := d.Close(ctx); err == nil || time.Since(began) != 7*time.Second {
			d.Errorf("Close returned %v after %s", err, time.Since(began))
		}
	})
}

func testWriterStoreDamaged(t *testing.T) {
	for name, next := range map[string]func(d *daemon){
		"until a restart": func(d *daemon) { d.close(); d.store = d.store.Reopen(); d.open() },
		"until a crash":   (*daemon).crash,
	} {
		t.Run(name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(d *daemon) {
				d.engine.Tag(other, d.serve(other))
				old := d.submitted(other)
				release := d.hold(good)
				running := d.pullAlways(good)
				d.inState(running, puller.StateActive, puller.PhasePulling)
				<-time.After(time.Second)
				d.store.Damage()
				for range 3 {
					if j, err := d.Pull(puller.PullRequest{Image: other}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "damaged") {
						d.Errorf("a new job: %+v, %v", j, err)
					}
					if err := d.Ready(); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "damaged") {
						d.Errorf("it is ready but for %v", err)
					}
					<-time.After(time.Minute)
				}
				if log := d.log.String(); !strings.Contains(log, "level=error") || !strings.Contains(log, "damaged") {
					d.Errorf("the log does not tell of it: %s", log)
				}
				release()
				d.succeeded(running, puller.SourcePulled) // told, though it can't be written
				events := d.events(running)
				next(d)
				for _, j := range []puller.Job{old, running} {
					if _, err := d.Job(j.ID); puller.KindOf(err) != puller.ErrNotFound {
						d.Errorf("the new store has a job of the damaged one, %v", err)
					}
				}
				if err := d.Ready(); err != nil {
					d.Error(err)
				}
				j := d.pullAlways(good)
				d.succeeded(j, puller.SourceUpToDate)
				if first := d.events(j)[0].Seq; first <= events[len(events)-1].Seq {
					d.Errorf("the numbers go on from %d", first)
				}
			})
		})
	}
}

// submitted is a job that has ended, its image being there.
func (d *daemon) submitted(image string) puller.Job {
	d.Helper()
	j, err := d.Pull(puller.PullRequest{Image: image, Policy: puller.PolicyNever})
	if err != nil {
		d.Fatal(err)
	}
	return d.end(j)
}

// A start that can't write would give numbers that the next one gives again.
func testWriterStoreReadOnly(t *testing.T) {
	store := storetest.New()
	store.Fail(errFull)
	o := defaults
	o.Store, o.Log = store, logrus.New()
	if _, err := jobs.New(nil, o); !errors.Is(err, errFull) {
		t.Errorf("it started with %v", err)
	}
}

// Those whose jobs were accepted together come back at nearly the same time: if
// the first of them did not wait, half of the callers would always miss the Save.
func testWriterManyInOneBatch(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		d.store.OnSave(func([]store.Record) { <-time.After(3 * time.Millisecond) })
		const many, times = 64, 10
		before := d.store.Saves()
		var callers sync.WaitGroup
		for i := range many {
			callers.Go(func() {
				for range times {
					if _, err := d.Pull(puller.PullRequest{Image: good, Policy: puller.PolicyAlways}); err != nil {
						d.Error(err)
					}
					<-time.After(time.Duration(i) * 20 * time.Microsecond)
				}
			})
		}
		callers.Wait()
		// A batch forms while the last save runs.
		if n := d.store.Saves() - before; n > 2*times+4 {
			d.Errorf("%d jobs each of %d callers took %d saves", times, many, n)
		}
	})
}

func testWriterNoWaitAlone(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		d.store.OnSave(func([]store.Record) { <-time.After(3 * time.Millisecond) })
		for range 10 {
			began := time.Now()
			d.pullAlways(good)
			if took := time.Since(began); took > 6*time.Millisecond { // a save of something else may be under way
				d.Errorf("a job was accepted after %s", took)
			}
			<-time.After(time.Millisecond)
		}
	})
}
