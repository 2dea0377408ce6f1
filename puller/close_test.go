package puller_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
)

func TestCloseEndsEveryJob(t *testing.T) {
	inYardWith(t, single, nil, func(y *yard) {
		y.engine.Tag("registry.test/done:v1", y.serve("registry.test/done:v1"))
		done := y.submit(puller.PullRequest{Image: "registry.test/done:v1"})
		y.came(done, puller.Present)
		y.hold(good)
		secret := credentials(t, "hunter2")
		jobs := []puller.Job{
			y.submit(puller.PullRequest{Image: good, Policy: puller.Always, Credentials: secret}),
			y.submit(puller.PullRequest{Image: good, Policy: puller.Always, Credentials: secret}),
			y.always(other), // queued
		}
		y.is(jobs[1], puller.Active, puller.Pulling)
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
			y.failed(j, puller.Overloaded)
			if got := numbered(y.events(j)); !slices.Equal(got[len(got)-2:], []string{"state failed", "result"}) {
				y.Errorf("the numbered events are %q", got)
			}
		}
		y.came(done, puller.Present)
		if _, err := y.Submit(puller.PullRequest{Image: good}); puller.KindOf(err) != puller.Overloaded {
			y.Errorf("a job was accepted after the end: %v", err)
		}
		if err := y.Close(y.Context()); err != nil {
			y.Errorf("closed again: %v", err)
		}
		if log := y.log.String(); !strings.Contains(log, jobs[0].ID) || strings.Contains(log, "hunter2") || strings.Contains(log, secret.Header()) {
			y.Errorf("the log lacks a job or has a secret:\n%s", log)
		}
	})
}

func TestCloseWaitsNoLongerThanItMay(t *testing.T) {
	late := &lateEngine{}
	inYardWith(t, defaults, func(e puller.Engine) puller.Engine { late.Engine = e; return late }, func(y *yard) {
		late.gate = make(chan struct{})
		y.hold(good)
		j := y.always(good)
		y.is(j, puller.Active, puller.Pulling)
		ctx, cancel := context.WithTimeout(y.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := y.Close(ctx); err == nil || time.Since(began) != 5*time.Second {
			y.Errorf("Close returned %v after %s", err, time.Since(began))
		}
		if v := y.failed(j, puller.Overloaded); v.FinishedAt.Sub(began) != 0 {
			y.Errorf("the job had to wait for it")
		}
		close(late.gate)
	})
}
