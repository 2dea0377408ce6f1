package jobs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
)

// paused checks that a job has not ended, and that those who wait are told.
func (d *daemon) paused(j puller.Job) {
	d.Helper()
	v, err := d.Wait(d.Context(), j.ID)
	if v.State.Ended() || puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "goes on when it is back") {
		d.Errorf("the job is %s, and who waits gets %v", v.State, err)
	}
	events := d.events(j)
	if last := events[len(events)-1]; last.Type != "notice" || !strings.Contains(last.Message, "shutting down") {
		d.Errorf("the last event is %+v", last)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("keeps jobs", testCloseKeepsJobs)
	t.Run("deadline", testCloseDeadline)
	t.Run("while job ends", testCloseWhileJobEnds)
}

func testCloseKeepsJobs(t *testing.T) {
	withDaemonOf(t, single, nil, func(d *daemon) {
		d.engine.Tag("registry.test/done:v1", d.serve("registry.test/done:v1"))
		done := d.submit(puller.PullRequest{Image: "registry.test/done:v1"})
		d.succeeded(done, puller.SourcePresent)
		d.hold(good)
		secret := credentials(t, "hunter2")
		jobs := []puller.Job{
			d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret}),
			d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret}),
			d.pullAlways(other), // queued
		}
		d.inState(jobs[1], puller.StateActive, puller.PhasePulling)
		d.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) { <-gone; return 0, "" })
		for range 20 { // some of them wait for their check
			jobs = append(jobs, d.submit(puller.PullRequest{Image: other}))
		}
		synctest.Wait()

		began := time.Now()
		if err := d.Close(d.Context()); err != nil {
			d.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			d.Errorf("Close took %s", took)
		}
		d.wantAborted(1)
		for _, j := range jobs {
			d.paused(j)
		}
		d.succeeded(done, puller.SourcePresent)
		if _, err := d.Pull(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.ErrOverloaded {
			d.Errorf("a job was accepted after the end: %v", err)
		}
		if _, err := d.Cancel(jobs[0].ID); puller.KindOf(err) != puller.ErrOverloaded {
			d.Errorf("a job was canceled after the end: %v", err)
		}
		if err := d.Close(d.Context()); err != nil {
			d.Errorf("closed again: %v", err)
		}
		if log := d.log.String(); !strings.Contains(log, done.ID) || strings.Contains(log, "hunter2") || strings.Contains(log, secret.Header()) {
			d.Errorf("the log lacks a job or has a secret:\n%s", log)
		}

		d.engine.OnInspect(nil)
		d.serve(good)
		d.serve(other)
		d.open()
		for _, j := range jobs[:2] {
			d.failed(j, puller.ErrDenied)
		}
		d.succeeded(jobs[2], puller.SourcePulled)
		for _, j := range jobs[3:] {
			if v := d.end(j); v.State != puller.StateSucceeded {
				d.Errorf("a job ended as %s: %+v", v.State, v.Error)
			}
		}
	})
}

func testCloseDeadline(t *testing.T) {
	late := &lateEngine{}
	withDaemonOf(t, defaults, func(e engines.Engine) engines.Engine { late.Engine = e; return late }, func(d *daemon) {
		late.gate = make(chan struct{})
		defer close(late.gate)
		d.hold(good)
		j := d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		ctx, cancel := context.WithTimeout(d.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := d.Close(ctx); err == nil || time.Since(began) != 5*time.Second {
			d.Errorf("Close returned %v after %s", err, time.Since(began))
		}
		d.paused(j)
	})
}

// What ends while the daemon does is on disk before it is gone.
func testCloseWhileJobEnds(t *testing.T) {
	late := &lateEngine{}
	withDaemonOf(t, defaults, func(e engines.Engine) engines.Engine { late.Engine = e; return late }, func(d *daemon) {
		d.serve(good)
		j := d.pullAlways(good)
		d.store.Fail(errors.New("no space left on device"))
		d.succeeded(j, puller.SourcePulled) // told, though it could not be written
		d.store.Fail(nil)
		d.restart()
		v := d.succeeded(j, puller.SourcePulled)
		if got := numbered(d.events(v)); !slices.Equal(got[len(got)-2:], []string{"state succeeded", "result"}) {
			d.Errorf("the numbered events are %q", got)
		}
		d.wantPulls(1)
	})
}
