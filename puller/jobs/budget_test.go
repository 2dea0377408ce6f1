package jobs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
)

func TestBudgetBytesOfCaller(t *testing.T) {
	t.Parallel()
	o := defaults
	o.MaxBytesPerCaller = 100 << 10
	large := strings.Repeat("x", 40<<10)
	run := func(caller string, change func(*puller.RunRequest)) func(*daemon) (puller.Job, error) {
		return func(d *daemon) (puller.Job, error) {
			r := with(puller.RunRequest{Image: good, Policy: puller.PolicyAlways}, func(r *puller.RunRequest) { r.Caller = caller })
			change(&r)
			return d.Service.Run(r)
		}
	}
	prewarm := func(r puller.PrewarmRequest) func(*daemon) (puller.Job, error) {
		return func(d *daemon) (puller.Job, error) {
			r.Caller, r.Policy = "token:ci", puller.PolicyAlways
			return d.Prewarm(r)
		}
	}
	images := func(n int) (l puller.Images) {
		for i := range n {
			l = append(l, puller.PullRequest{Image: fmt.Sprintf("registry.test/image%d:v1", i)})
		}
		return l
	}
	for _, c := range []struct {
		name string
		one  func(*daemon) (puller.Job, error) // two are taken
	}{
		{name: "a run's environment", one: run("token:ci", func(r *puller.RunRequest) { r.Env = map[string]string{"A": large} })},
		{name: "a run's command", one: run("token:ci", func(r *puller.RunRequest) { r.Cmd = []string{"sh", large} })},
		{name: "a run's entry point", one: run("token:ci", func(r *puller.RunRequest) { r.Entrypoint = []string{large} })},
		{name: "a run's user", one: run("token:ci", func(r *puller.RunRequest) { r.User = large })},
		{name: "a prewarm's images", one: prewarm(puller.PrewarmRequest{Images: images(40)})},
		{name: "a prewarm's services", one: prewarm(with(puller.PrewarmRequest{
			Images: images(1),
		}, func(r *puller.PrewarmRequest) {
			r.Skipped = []puller.Skipped{{Service: "app", Reason: strings.Repeat("x", 39<<10)}}
		}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.hold(good)
				for i := range 40 {
					d.hold(fmt.Sprintf("registry.test/image%d:v1", i))
				}
				var jobs []puller.Job
				for range 2 {
					j, err := c.one(d)
					if err != nil {
						d.Fatal(err)
					}
					jobs = append(jobs, j)
				}
				full := func(when string) {
					d.Helper()
					_, err := c.one(d)
					var e *puller.Error
					if !errors.As(err, &e) || e.Kind != puller.ErrOverloaded || e.RetryAfter <= 0 || !strings.Contains(e.Error(), "102400 may be") {
						d.Errorf("%s: a third is %v", when, err)
					}
				}
				full("at first")
				if _, err := run("token:other", func(r *puller.RunRequest) { r.Env = map[string]string{"A": large} })(d); err != nil {
					d.Errorf("another caller: %v", err)
				}
				d.restart()
				full("after a restart")
				if _, err := d.Cancel(jobs[0].ID); err != nil {
					d.Fatal(err)
				}
				if _, err := c.one(d); err != nil {
					d.Errorf("once one has ended: %v", err)
				}
				full("then")
			})
		})
	}
	t.Run("what can never be is not worth another try", func(t *testing.T) {
		withDaemonOf(t, o, nil, func(d *daemon) {
			_, err := run("token:ci", func(r *puller.RunRequest) {
				r.Env = map[string]string{"A": large, "B": large, "C": large}
			})(d)
			if puller.KindOf(err) != puller.ErrInvalidRequest {
				d.Error(err)
			}
		})
	})
}
