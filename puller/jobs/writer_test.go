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
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream"
)

var errFull = errors.New("no space left on device")

// block holds up what the store is to save until open is called, and counts it.
func (y *daemon) block() (open func(), saves *atomic.Int32) {
	gate := make(chan struct{})
	saves = new(atomic.Int32)
	y.store.OnSave(func([]puller.Record) {
		saves.Add(1)
		<-gate
	})
	open = sync.OnceFunc(func() { close(gate) })
	y.Cleanup(open) // before the Service is closed
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

func (y *daemon) submitting(r puller.PullRequest) func() answer {
	return calling(func() (puller.Job, error) { return y.Pull(r) })
}

// Listed returns the IDs of all jobs.
func (y *daemon) listed() (ids []string) {
	y.Helper()
	var f puller.Filter
	for {
		page, next, err := y.Jobs(f)
		if err != nil {
			y.Fatal(err)
		}
		for _, v := range page {
			ids = append(ids, v.ID)
		}
		if f.Cursor = next; next == "" {
			return ids
		}
	}
}

func TestWriterAcceptsWhenSaved(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.serve(good)
		open, _ := y.block()
		submitted := y.submitting(puller.PullRequest{Image: good, Policy: puller.PolicyAlways})
		if a := submitted(); a.returned {
			y.Fatalf("Submit returned %+v, %v before that", a.job, a.err)
		}
		if ids := y.listed(); len(ids) != 0 {
			y.Errorf("the job is listed before that: %q", ids)
		}
		if c := y.engine.Counts(); c.Pulls+c.Inspects != 0 {
			y.Errorf("the engine was asked before that: %+v", c)
		}
		open()
		a := submitted()
		if a.err != nil {
			y.Fatal(a.err)
		}
		y.came(a.job, puller.SourcePulled)
	})
}

func TestWriterStoreFails(t *testing.T) {
	o := single
	o.MaxPerCaller = 100
	withDaemonOf(t, o, nil, func(y *daemon) {
		release := y.hold(good)
		running := y.always(good)
		queued := y.always(other)
		y.is(running, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		before := y.listed()

		y.store.Fail(errFull)
		keyed := puller.PullRequest{Image: other, Policy: puller.PolicyAlways, IdempotencyKey: "ci-1"}
		list := make(puller.Images, 60)
		for i := range list {
			list[i].Image = other
		}
		for range 3 { // together more than the caller may have at a time
			_, err := y.Prewarm(puller.PrewarmRequest{Images: list})
			if puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), errFull.Error()) {
				y.Fatalf("a prewarm that could not be written: %v", err)
			}
		}
		if _, err := y.Pull(keyed); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), errFull.Error()) {
			y.Errorf("a job that could not be written: %v", err)
		}
		if err := y.Ready(); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), errFull.Error()) {
			y.Errorf("it is ready but for %v", err)
		}
		if after := y.listed(); fmt.Sprint(after) != fmt.Sprint(before) {
			y.Errorf("there are jobs %q, not %q", after, before)
		}
		release()
		y.came(running, puller.SourcePulled) // told, though it can't be written
		y.events(running)
		if r, err := y.store.Record(running.ID); err != nil || r.Job.State.Ended() {
			y.Errorf("the store has %+v, %v", r.Job, err)
		}
		y.failed(queued, puller.ErrNotFound)

		y.store.Fail(nil)
		<-time.After(2 * time.Second)
		if err := y.Ready(); err != nil {
			y.Error(err)
		}
		kept := y.kept(running)
		y.crash()
		if again := y.kept(running); again != kept {
			y.Errorf("after the crash it is\n%s\nnot\n%s", again, kept)
		}
		y.serve(other)
		j := y.submit(keyed)
		y.came(j, puller.SourcePulled)
		if _, err := y.Prewarm(puller.PrewarmRequest{Images: list}); err != nil {
			y.Error(err)
		}
	})
}

func TestWriterRetriesSave(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.store.Fail(errFull)
		for range 50 {
			y.Pull(puller.PullRequest{Image: good})
			<-time.After(17 * time.Millisecond)
		}
		var saves atomic.Int32
		y.store.OnSave(func([]puller.Record) { saves.Add(1) })
		<-time.After(time.Minute)
		if n := saves.Load(); n < 59 || n > 61 {
			y.Errorf("in a minute it was tried %d times", n)
		}
		y.store.Fail(nil)
		<-time.After(time.Minute)
		if n := saves.Load(); n > 62 {
			y.Errorf("after it was well again it was given nothing %d times", n-61)
		}
	})
}

func TestWriterResultWhenSaved(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		release := y.hold(good)
		keyed := puller.PullRequest{Image: good, Policy: puller.PolicyAlways, IdempotencyKey: "ci-1"}
		j := y.submit(keyed)
		y.hold(other)
		gone := y.always(other)
		y.is(j, puller.StateActive, puller.PhasePulling)
		y.is(gone, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		_, sub, err := y.Watch(j.ID, nil)
		if err != nil {
			y.Fatal(err)
		}

		open, _ := y.block()
		release()
		synctest.Wait()
		waited := calling(func() (puller.Job, error) { return y.Wait(y.Context(), j.ID) })
		canceled := calling(func() (puller.Job, error) { return y.Cancel(gone.ID) })
		late := calling(func() (puller.Job, error) { return y.Cancel(j.ID) })
		for name, call := range map[string]func() answer{"Wait": waited, "Cancel": canceled, "Cancel of what has ended": late} {
			if a := call(); a.returned {
				y.Errorf("%s returned %+v, %v before that", name, a.job, a.err)
			}
		}
		for _, v := range []puller.Job{y.now(j), y.now(gone)} {
			if v.State != puller.StateActive {
				y.Errorf("the job is %s before that", v.State)
			}
		}
		if again, err := y.Pull(keyed); err != nil || again.ID != j.ID || again.State != puller.StateActive {
			y.Errorf("sent again it is %+v, %v", again, err)
		}
		for {
			frames, err := next(y.Context(), sub, time.Millisecond)
			if err != nil {
				y.Fatal(err)
			}
			if len(frames) == 0 {
				break
			}
			for _, f := range frames {
				if line := string(stream.NDJSON.Append(nil, &f, j.ID)); f.Type == "result" || strings.Contains(line, `"succeeded"`) {
					y.Errorf("before that a reader is told %s", line)
				}
			}
		}

		open()
		if a := waited(); a.err != nil || a.job.State != puller.StateSucceeded {
			y.Errorf("Wait returned %+v, %v", a.job, a.err)
		}
		if a := canceled(); a.err != nil || a.job.State != puller.StateCanceled {
			y.Errorf("Cancel returned %+v, %v", a.job, a.err)
		}
		if a := late(); puller.KindOf(a.err) != puller.ErrConflict {
			y.Errorf("Cancel of what has ended returned %+v, %v", a.job, a.err)
		}
	})
}

func TestWriterBatch(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.engine.Tag(good, y.serve(good))
		open, saves := y.block()
		var submitted []func() answer
		for range 64 {
			submitted = append(submitted, y.submitting(puller.PullRequest{Image: good}))
		}
		synctest.Wait()
		if n := saves.Load(); n != 1 {
			y.Errorf("there are %d saves at a time", n)
		}
		// What ends, ends later: its save is not counted.
		y.engine.OnInspect(func(string, <-chan struct{}) (int, string) { <-time.After(time.Second); return 0, "" })
		open()
		for _, call := range submitted {
			if a := call(); a.err != nil {
				y.Fatal(a.err)
			}
		}
		if n := saves.Load(); n > 2 {
			y.Errorf("64 jobs took %d saves", n)
		}
		for _, call := range submitted {
			y.came(call().job, puller.SourcePresent)
		}
	})
}

func TestIdempotencyKeyConcurrent(t *testing.T) {
	for _, fault := range []error{nil, errFull} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			withDaemon(t, func(y *daemon) {
				y.serve(good)
				open, _ := y.block()
				keyed := puller.PullRequest{Image: good, IdempotencyKey: "ci-1"}
				calls := []func() answer{y.submitting(keyed), y.submitting(keyed), y.submitting(keyed)}
				unlike := y.submitting(puller.PullRequest{Image: other, IdempotencyKey: "ci-1"})
				if unlike().returned {
					y.Error("another request with the key was answered before it was known whether the first was accepted")
				}
				y.store.Fail(fault)
				open()
				if fault != nil {
					for _, call := range append(calls, unlike) {
						if a := call(); puller.KindOf(a.err) != puller.ErrOverloaded {
							y.Errorf("it was answered with %+v, %v", a.job, a.err)
						}
					}
					y.store.Fail(nil)
					y.came(y.submit(keyed), puller.SourcePulled)
					return
				}
				// Whichever came first has the key.
				var ids []string
				conflicts := 0
				for _, call := range append(calls, unlike) {
					if a := call(); puller.KindOf(a.err) == puller.ErrConflict {
						conflicts++
					} else if a.err != nil {
						y.Error(a.err)
					} else {
						ids = append(ids, a.job.ID)
					}
				}
				if listed := y.listed(); len(listed) != 1 || conflicts+len(ids) != 4 || conflicts != 1 && conflicts != 3 {
					y.Errorf("there are jobs %q, given %q, and %d conflicts", listed, ids, conflicts)
				}
			})
		})
	}
}

// What comes and ends with the last writing is answered as it is on disk.
func TestWriterLastSave(t *testing.T) {
	for range 12 { // there are two ways to be told
		withDaemon(t, func(y *daemon) {
			y.hold(good)
			gone := y.always(good)
			y.is(gone, puller.StateActive, puller.PhasePulling)
			<-time.After(time.Second)
			open, _ := y.block()
			first := y.submitting(puller.PullRequest{Image: other})
			first() // keeps the store busy
			var submitted []func() answer
			for range 8 {
				submitted = append(submitted, y.submitting(puller.PullRequest{Image: other}))
			}
			canceled := calling(func() (puller.Job, error) { return y.Cancel(gone.ID) })
			canceled()
			closed := calling(func() (puller.Job, error) { return puller.Job{}, y.Close(y.Context()) })
			if closed().returned {
				y.Error("Close did not wait for the store")
			}
			open()
			if a := closed(); !a.returned || a.err != nil {
				y.Errorf("Close returned %v", a.err)
			}
			if a := canceled(); a.err != nil || a.job.State != puller.StateCanceled {
				y.Errorf("Cancel returned %+v, %v", a.job, a.err)
			}
			y.serve(other)
			y.open()
			for _, call := range append(submitted, first) {
				a := call()
				if a.err != nil {
					y.Fatalf("it is on disk, but was answered with %v", a.err)
				}
				if v := y.end(a.job); v.State != puller.StateSucceeded {
					y.Errorf("it ended as %s: %+v", v.State, v.Error)
				}
			}
			if n := len(y.listed()); n != 10 {
				y.Errorf("there are %d jobs", n)
			}
		})
	}
}

func TestWriterCloseStoreHangs(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.serve(good)
		open, _ := y.block()
		defer open()
		submitted := y.submitting(puller.PullRequest{Image: good})
		submitted()
		ctx, cancel := context.WithTimeout(y.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := y.Close(ctx); err == nil || time.Since(began) != 7*time.Second {
			y.Errorf("Close returned %v after %s", err, time.Since(began))
		}
	})
}

func TestWriterStoreDamaged(t *testing.T) {
	for name, next := range map[string]func(y *daemon){
		"until a restart": func(y *daemon) { y.close(); y.store = y.store.Reopen(); y.open() },
		"until a crash":   (*daemon).crash,
	} {
		t.Run(name, func(t *testing.T) {
			withDaemonOf(t, single, nil, func(y *daemon) {
				y.engine.Tag(other, y.serve(other))
				old := y.submitted(other)
				release := y.hold(good)
				running := y.always(good)
				y.is(running, puller.StateActive, puller.PhasePulling)
				<-time.After(time.Second)
				y.store.Damage()
				for range 3 {
					if j, err := y.Pull(puller.PullRequest{Image: other}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "damaged") {
						y.Errorf("a new job: %+v, %v", j, err)
					}
					if err := y.Ready(); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "damaged") {
						y.Errorf("it is ready but for %v", err)
					}
					<-time.After(time.Minute)
				}
				if log := y.log.String(); !strings.Contains(log, "level=error") || !strings.Contains(log, "damaged") {
					y.Errorf("the log does not tell of it: %s", log)
				}
				release()
				y.came(running, puller.SourcePulled) // told, though it can't be written
				events := y.events(running)
				next(y)
				for _, j := range []puller.Job{old, running} {
					if _, err := y.Job(j.ID); puller.KindOf(err) != puller.ErrNotFound {
						y.Errorf("the new store has a job of the damaged one, %v", err)
					}
				}
				if err := y.Ready(); err != nil {
					y.Error(err)
				}
				j := y.always(good)
				y.came(j, puller.SourceUpToDate)
				if first := y.events(j)[0].Seq; first <= events[len(events)-1].Seq {
					y.Errorf("the numbers go on from %d", first)
				}
			})
		})
	}
}

// submitted is a job that has ended, its image being there.
func (y *daemon) submitted(image string) puller.Job {
	y.Helper()
	j, err := y.Pull(puller.PullRequest{Image: image, Policy: puller.PolicyNever})
	if err != nil {
		y.Fatal(err)
	}
	return y.end(j)
}

// A start that can't write would give numbers that the next one gives again.
func TestWriterStoreReadOnly(t *testing.T) {
	store := storetest.New()
	store.Fail(errFull)
	o := defaults
	o.Store, o.Log = store, logrus.New()
	if _, err := jobs.New(nil, o); !errors.Is(err, errFull) {
		t.Errorf("it started with %v", err)
	}
}

// Those whose jobs were accepted together come back at nearly the same time: if
// the first of them did not wait, half of a crowd would always miss the Save.
func TestWriterManyInOneBatch(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.hold(good)
		y.store.OnSave(func([]puller.Record) { <-time.After(3 * time.Millisecond) })
		const crowd, times = 64, 10
		before := y.store.Saves()
		var callers sync.WaitGroup
		for i := range crowd {
			callers.Go(func() {
				for range times {
					if _, err := y.Pull(puller.PullRequest{Image: good, Policy: puller.PolicyAlways}); err != nil {
						y.Error(err)
					}
					<-time.After(time.Duration(i) * 20 * time.Microsecond)
				}
			})
		}
		callers.Wait()
		// A batch forms while the last save runs.
		if n := y.store.Saves() - before; n > 2*times+4 {
			y.Errorf("%d jobs each of %d callers took %d saves", times, crowd, n)
		}
	})
}

func TestWriterNoWaitAlone(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.hold(good)
		y.store.OnSave(func([]puller.Record) { <-time.After(3 * time.Millisecond) })
		for range 10 {
			began := time.Now()
			y.always(good)
			if took := time.Since(began); took > 6*time.Millisecond { // a save of something else may be under way
				y.Errorf("a job was accepted after %s", took)
			}
			<-time.After(time.Millisecond)
		}
	})
}
