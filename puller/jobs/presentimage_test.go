package jobs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// A job that ends as soon as its image is looked for costs one Save, and is on
// disk as it ends when it is accepted.
func TestPresentSavedOnce(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.engine.Tag(good, enginetest.NewImage(good, 3))
		before := y.store.Saves()
		j := y.submit(puller.PullRequest{Image: good})
		if j.State != puller.StateSucceeded || j.Result.Source != puller.SourcePresent {
			y.Errorf("it was accepted as %s: %+v", j.State, j.Result)
		}
		if n := y.store.Saves() - before; n != 1 {
			y.Errorf("it took %d saves", n)
		}
		if n := y.engine.Counts().Inspects; n != 1 {
			y.Errorf("the engine was asked %d times", n)
		}
		r, err := y.store.Reopen().Record(j.ID)
		if err != nil || r.Job.State != puller.StateSucceeded || len(r.Events) != 3 {
			y.Errorf("kept is %+v with %d events, %v", r.Job, len(r.Events), err)
		}
		if told := y.since(j, 0); len(told) != 3 || told[2].Type != "result" {
			y.Errorf("told is %v", told)
		}
		y.pulls(0)
	})
}

func TestPresentSavedOncePolicyNever(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		before := y.store.Saves()
		j := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
		if j.State != puller.StateFailed || j.Error.Kind != puller.ErrNotFound {
			y.Errorf("it was accepted as %s: %+v", j.State, j.Error)
		}
		if n := y.store.Saves() - before; n != 1 {
			y.Errorf("it took %d saves", n)
		}
	})
}

// That the image is there does not make a promise of what is not on disk.
func TestPresentSaveFails(t *testing.T) {
	withDaemon(t, func(y *daemon) {
		y.engine.Tag(good, enginetest.NewImage(good, 3))
		y.store.Fail(errFull)
		r := puller.PullRequest{Image: good, IdempotencyKey: "once"}
		if _, err := y.Pull(r); puller.KindOf(err) != puller.ErrOverloaded || !errors.Is(err, errFull) {
			y.Errorf("it was answered with %v", err)
		}
		if ids := y.listed(); len(ids) != 0 {
			y.Errorf("known are %v", ids)
		}
		y.store.Fail(nil)
		j := y.submit(r)
		again := y.submit(r)
		if j.State != puller.StateSucceeded || again.ID != j.ID {
			y.Errorf("then it is %s, and again %s", j.State, again.ID)
		}
	})
}

// An engine that takes its time delays nobody's acceptance.
func TestSubmitWithoutEngine(t *testing.T) {
	for name, prepare := range map[string]func(y *daemon){
		"it hangs": func(y *daemon) { y.engine.Freeze() },
		"an inspect takes long": func(y *daemon) {
			y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
				select {
				case <-gone:
				case <-time.After(time.Second):
				}
				return 0, ""
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			withDaemon(t, func(y *daemon) {
				y.engine.Tag(good, enginetest.NewImage(good, 3))
				prepare(y)
				began := time.Now()
				j := y.submit(puller.PullRequest{Image: good})
				if took := time.Since(began); j.State != puller.StateQueued || took > 50*time.Millisecond {
					y.Errorf("it was accepted as %s after %s", j.State, took)
				}
				y.engine.Revive()
				y.came(j, puller.SourcePresent)
			})
		})
	}
}
