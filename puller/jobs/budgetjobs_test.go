package jobs_test

import (
	"errors"
	"testing"

	"github.com/towline/towline/puller"
)

func TestBudgetJobsOfCaller(t *testing.T) {
	o := defaults
	o.MaxPerCaller = 3
	withDaemonOf(t, o, nil, func(y *daemon) {
		release := y.hold(good)
		y.serve(other)
		of := func(caller, image string) puller.PullRequest {
			return puller.PullRequest{Image: image, Policy: puller.PolicyAlways, Caller: caller}
		}
		full := func(what string, jobs int) {
			y.Helper()
			_, err := y.Prewarm(puller.PrewarmRequest{Images: []puller.PullRequest{{Image: other}}, Caller: "token:ci"})
			var e *puller.Error
			if !errors.As(err, &e) || e.Kind != puller.ErrOverloaded || e.RetryAfter <= 0 {
				y.Errorf("%s: a prewarm of two jobs beside %d: %v", what, jobs, err)
			}
		}
		var jobs []puller.Job
		for range 2 {
			jobs = append(jobs, y.submit(of("token:ci", good)))
		}
		full("two of three", 2)
		third := of("token:ci", good)
		third.IdempotencyKey = "k"
		jobs = append(jobs, y.submit(third))
		if again := y.submit(third); again.ID != jobs[2].ID {
			y.Errorf("the same request again is job %s", again.ID)
		}
		if j, err := y.Pull(of("token:ci", other)); puller.KindOf(err) != puller.ErrOverloaded {
			y.Errorf("a fourth job: %+v, %v", j, err)
		}
		y.came(y.submit(of("token:other", other)), puller.SourcePulled)
		// They are the caller's after a restart, too.
		y.restart()
		full("after a restart", 3)
		if _, err := y.Cancel(jobs[0].ID); err != nil {
			y.Fatal(err)
		}
		y.submit(of("token:ci", other))
		release()
		for _, j := range jobs[1:] {
			y.end(j)
		}
		for range 4 { // none is counted that has ended
			y.end(y.submit(of("token:ci", other)))
			y.end(y.submit(puller.PullRequest{Image: other, Caller: "token:ci"})) // it is there
		}
		// What can never be is not worth another try.
		list := make([]puller.PullRequest, 3)
		for i := range list {
			list[i].Image = other
		}
		if _, err := y.Prewarm(puller.PrewarmRequest{Images: list, Caller: "token:ci"}); puller.KindOf(err) != puller.ErrInvalidRequest {
			y.Errorf("a prewarm of four jobs: %v", err)
		}
	})
}
