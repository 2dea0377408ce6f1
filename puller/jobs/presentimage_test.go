package jobs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestPresent(t *testing.T) {
	t.Parallel()
	t.Run("saved once", testPresentSavedOnce)
	t.Run("saved once policy never", testPresentSavedOncePolicyNever)
	t.Run("save fails", testPresentSaveFails)
}

// A job that ends as soon as its image is looked for costs one Save, and is on
// disk as it ends when it is accepted.
func testPresentSavedOnce(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.Tag(good, enginetest.NewImage(good, 3))
		before := d.store.Saves()
		j := d.submit(puller.PullRequest{Image: good})
		if j.State != puller.StateSucceeded || j.Result.Source != puller.SourcePresent {
			d.Errorf("it was accepted as %s: %+v", j.State, j.Result)
		}
		if n := d.store.Saves() - before; n != 1 {
			d.Errorf("it took %d saves", n)
		}
		if n := d.engine.Counts().Inspects; n != 1 {
			d.Errorf("the engine was asked %d times", n)
		}
		r, err := d.store.Reopen().Record(j.ID)
		if err != nil || r.Job.State != puller.StateSucceeded || len(r.Events) != 3 {
			d.Errorf("kept is %+v with %d events, %v", r.Job, len(r.Events), err)
		}
		if told := d.since(j, 0); len(told) != 3 || told[2].Type != "result" {
			d.Errorf("told is %v", told)
		}
		d.wantPulls(0)
	})
}

func testPresentSavedOncePolicyNever(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		before := d.store.Saves()
		j := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever})
		if j.State != puller.StateFailed || j.Error.Kind != puller.ErrNotFound {
			d.Errorf("it was accepted as %s: %+v", j.State, j.Error)
		}
		if n := d.store.Saves() - before; n != 1 {
			d.Errorf("it took %d saves", n)
		}
	})
}

// That the image is there does not make a promise of what is not on disk.
func testPresentSaveFails(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.engine.Tag(good, enginetest.NewImage(good, 3))
		d.store.Fail(errFull)
		r := puller.PullRequest{Image: good, IdempotencyKey: "once"}
		if _, err := d.Pull(r); puller.KindOf(err) != puller.ErrOverloaded || !errors.Is(err, errFull) {
			d.Errorf("it was answered with %v", err)
		}
		if ids := d.listed(); len(ids) != 0 {
			d.Errorf("known are %v", ids)
		}
		d.store.Fail(nil)
		j := d.submit(r)
		again := d.submit(r)
		if j.State != puller.StateSucceeded || again.ID != j.ID {
			d.Errorf("then it is %s, and again %s", j.State, again.ID)
		}
	})
}

// An engine that takes its time delays nobody's acceptance.
func TestSubmitWithoutEngine(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(d *daemon){
		"it hangs": func(d *daemon) { d.engine.Freeze() },
		"an inspect takes long": func(d *daemon) {
			d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) {
				select {
				case <-gone:
				case <-time.After(time.Second):
				}
				return 0, ""
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			withDaemon(t, func(d *daemon) {
				d.engine.Tag(good, enginetest.NewImage(good, 3))
				prepare(d)
				began := time.Now()
				j := d.submit(puller.PullRequest{Image: good})
				if took := time.Since(began); j.State != puller.StateQueued || took > 50*time.Millisecond {
					d.Errorf("it was accepted as %s after %s", j.State, took)
				}
				d.engine.Revive()
				d.succeeded(j, puller.SourcePresent)
			})
		})
	}
}
