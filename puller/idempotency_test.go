package puller_test

import (
	"testing"

	"github.com/towline/towline/puller"
)

func TestARequestThatIsSentAgainGivesTheSameJob(t *testing.T) {
	inYard(t, func(y *yard) {
		y.serve(good)
		request := puller.PullRequest{Image: good, IdempotencyKey: "ci-1"}
		first := y.submit(request)
		request.Image = "registry.test/good:v1" // the same, however it is written
		if again := y.submit(request); again.ID != first.ID {
			y.Errorf("the second job is %s, not %s", again.ID, first.ID)
		}
		y.came(first, puller.Pulled)
		if again := y.submit(request); again.ID != first.ID || again.State != puller.Succeeded {
			y.Errorf("after its end the job is %+v", again)
		}
		for _, other := range []puller.PullRequest{
			{Image: other, IdempotencyKey: "ci-1"},
			{Image: good, Policy: puller.Always, IdempotencyKey: "ci-1"},
			{Image: good, Credentials: credentials(t, "secret"), IdempotencyKey: "ci-1"},
		} {
			if j, err := y.Submit(other); puller.KindOf(err) != puller.Conflict {
				y.Errorf("another request with the key gave %+v, %v", j, err)
			}
		}
		if j := y.submit(puller.PullRequest{Image: good, IdempotencyKey: "ci-2"}); j.ID == first.ID {
			y.Error("another key gave the same job")
		}
	})
}

// The result of a pull that took long is not forgotten because shorter ones
// ended before it.
func TestAJobThatTookLongIsRememberedAfterItsEnd(t *testing.T) {
	inYard(t, func(y *yard) {
		release := y.hold(good)
		long := y.submit(puller.PullRequest{Image: good, IdempotencyKey: "long"})
		y.engine.Tag(other, y.serve(other))
		for range 1200 {
			y.end(y.submit(puller.PullRequest{Image: other}))
		}
		release()
		y.came(long, puller.Pulled)
		if again := y.submit(puller.PullRequest{Image: good, IdempotencyKey: "long"}); again.ID != long.ID {
			y.Errorf("its key is forgotten: %+v", again)
		}
	})
}
