package jobs_test

import (
	"errors"
	"testing"

	"github.com/towline/towline/puller"
)

func TestBudgetJobsOfCaller(t *testing.T) {
	t.Parallel()
	o := defaults
	o.MaxPerCaller = 3
	withDaemonOf(t, o, nil, func(d *daemon) {
		release := d.hold(good)
		d.serve(other)
		of := func(caller, image string) puller.PullRequest {
			return with(puller.PullRequest{Image: image, Policy: puller.PolicyAlways}, func(r *puller.PullRequest) { r.Caller = caller })
		}
		full := func(what string, jobs int) {
			d.Helper()
			_, err := d.Prewarm(with(puller.PrewarmRequest{Images: []puller.PullRequest{{Image: other}}}, func(r *puller.PrewarmRequest) { r.Caller = "token:ci" }))
			var e *puller.Error
			if !errors.As(err, &e) || e.Kind != puller.ErrOverloaded || e.RetryAfter <= 0 {
				d.Errorf("%s: a prewarm of two jobs beside %d: %v", what, jobs, err)
			}
		}
		var jobs []puller.Job
		for range 2 {
			jobs = append(jobs, d.submit(of("token:ci", good)))
		}
		full("two of three", 2)
		third := of("token:ci", good)
		third.IdempotencyKey = "k"
		jobs = append(jobs, d.submit(third))
		if again := d.submit(third); again.ID != jobs[2].ID {
			d.Errorf("the same request again is job %s", again.ID)
		}
		if j, err := d.Pull(of("token:ci", other)); puller.KindOf(err) != puller.ErrOverloaded {
			d.Errorf("a fourth job: %+v, %v", j, err)
		}
		d.succeeded(d.submit(of("token:other", other)), puller.SourcePulled)
		// They are the caller's after a restart, too.
		d.restart()
		full("after a restart", 3)
		if _, err := d.Cancel(jobs[0].ID); err != nil {
			d.Fatal(err)
		}
		d.submit(of("token:ci", other))
		release()
		for _, j := range jobs[1:] {
			d.end(j)
		}
		for range 4 { // none is counted that has ended
			d.end(d.submit(of("token:ci", other)))
			d.end(d.submit(with(puller.PullRequest{Image: other}, func(r *puller.PullRequest) { r.Caller = "token:ci" }))) // it is there
		}
		// What can never be is not worth another try.
		list := make([]puller.PullRequest, 3)
		for i := range list {
			list[i].Image = other
		}
		if _, err := d.Prewarm(with(puller.PrewarmRequest{Images: list}, func(r *puller.PrewarmRequest) { r.Caller = "token:ci" })); puller.KindOf(err) != puller.ErrInvalidRequest {
			d.Errorf("a prewarm of four jobs: %v", err)
		}
	})
}
