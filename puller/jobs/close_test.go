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
)

// paused checks that a job has not ended, and that those who wait are told.
func (y *daemon) paused(j puller.Job) {
	y.Helper()
	v, err := y.Wait(y.Context(), j.ID)
	if v.State.Ended() || puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "goes on when it is back") {
		y.Errorf("the job is %s, and who waits gets %v", v.State, err)
	}
	events := y.events(j)
	if last := events[len(events)-1]; last.Type != "notice" || !strings.Contains(last.Message, "shutting down") {
		y.Errorf("the last event is %+v", last)
	}
}

func TestCloseKeepsJobs(t *testing.T) {
	withDaemonOf(t, single, nil, func(y *daemon) {
		y.engine.Tag("registry.test/done:v1", y.serve("registry.test/done:v1"))
		done := y.submit(puller.PullRequest{Image: "registry.test/done:v1"})
		y.came(done, puller.SourcePresent)
		y.hold(good)
		secret := credentials(t, "hunter2")
		jobs := []puller.Job{
			y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret}),
			y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: secret}),
			y.always(other), // queued
		}
		y.is(jobs[1], puller.StateActive, puller.PhasePulling)
		y.engine.OnInspect(func(_ string, gone <-chan struct{}) (int, string) { <-gone; return 0, "" })
		for range 20 { // some of them wait for their check
			jobs = append(jobs, y.submit(puller.PullRequest{Image: other}))
		}
		synctest.Wait()

		began := time.Now()
		if err := y.Close(y.Context()); err != nil {
			y.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			y.Errorf("Close took %s", took)
		}
		y.aborted(1)
		for _, j := range jobs {
			y.paused(j)
		}
		y.came(done, puller.SourcePresent)
		if _, err := y.Pull(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.ErrOverloaded {
			y.Errorf("a job was accepted after the end: %v", err)
		}
		if _, err := y.Cancel(jobs[0].ID); puller.KindOf(err) != puller.ErrOverloaded {
			y.Errorf("a job was canceled after the end: %v", err)
		}
		if err := y.Close(y.Context()); err != nil {
			y.Errorf("closed again: %v", err)
		}
		if log := y.log.String(); !strings.Contains(log, done.ID) || strings.Contains(log, "hunter2") || strings.Contains(log, secret.Header()) {
			y.Errorf("the log lacks a job or has a secret:\n%s", log)
		}

		y.engine.OnInspect(nil)
		y.serve(good)
		y.serve(other)
		y.open()
		for _, j := range jobs[:2] {
			y.failed(j, puller.ErrDenied)
		}
		y.came(jobs[2], puller.SourcePulled)
		for _, j := range jobs[3:] {
			if v := y.end(j); v.State != puller.StateSucceeded {
				y.Errorf("a job ended as %s: %+v", v.State, v.Error)
			}
		}
	})
}

func TestCloseDeadline(t *testing.T) {
	late := &lateEngine{}
	withDaemonOf(t, defaults, func(e puller.Engine) puller.Engine { late.Engine = e; return late }, func(y *daemon) {
		late.gate = make(chan struct{})
		defer close(late.gate)
		y.hold(good)
		j := y.always(good)
		y.is(j, puller.StateActive, puller.PhasePulling)
		ctx, cancel := context.WithTimeout(y.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := y.Close(ctx); err == nil || time.Since(began) != 5*time.Second {
			y.Errorf("Close returned %v after %s", err, time.Since(began))
		}
		y.paused(j)
	})
}

// What ends while the daemon does is on disk before it is gone.
func TestCloseWhileJobEnds(t *testing.T) {
	late := &lateEngine{}
	withDaemonOf(t, defaults, func(e puller.Engine) puller.Engine { late.Engine = e; return late }, func(y *daemon) {
		y.serve(good)
		j := y.always(good)
		y.store.Fail(errors.New("no space left on device"))
		y.came(j, puller.SourcePulled) // told, though it could not be written
		y.store.Fail(nil)
		y.restart()
		v := y.came(j, puller.SourcePulled)
		if got := numbered(y.events(v)); !slices.Equal(got[len(got)-2:], []string{"state succeeded", "result"}) {
			y.Errorf("the numbered events are %q", got)
		}
		y.pulls(1)
	})
}
