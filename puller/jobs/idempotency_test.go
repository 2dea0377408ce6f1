package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/jobs"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	t.Run("sent again", testIdempotencyKeySentAgain)
	t.Run("per caller", testIdempotencyKeyPerCaller)
	t.Run("defaults changed", testIdempotencyKeyDefaultsChanged)
	t.Run("of long job", testIdempotencyKeyOfLongJob)
	t.Run("with other credentials", testIdempotencyKeyWithOtherCredentials)
}

func testIdempotencyKeySentAgain(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		request := puller.PullRequest{Image: good, IdempotencyKey: "ci-1"}
		first := d.submit(request)
		request.Image = "registry.test/good:v1" // the same, however it is written
		if again := d.submit(request); again.ID != first.ID {
			d.Errorf("the second job is %s, not %s", again.ID, first.ID)
		}
		d.succeeded(first, puller.SourcePulled)
		if again := d.submit(request); again.ID != first.ID || again.State != puller.StateSucceeded {
			d.Errorf("after its end the job is %+v", again)
		}
		for _, other := range []puller.PullRequest{
			{Image: other, IdempotencyKey: "ci-1"},
			{Image: good, Policy: puller.PolicyAlways, IdempotencyKey: "ci-1"},
			{Image: good, Credentials: credentials(t, "secret"), IdempotencyKey: "ci-1"},
		} {
			if j, err := d.Pull(other); puller.KindOf(err) != puller.ErrConflict {
				d.Errorf("another request with the key gave %+v, %v", j, err)
			}
		}
		if j := d.submit(puller.PullRequest{Image: good, IdempotencyKey: "ci-2"}); j.ID == first.ID {
			d.Error("another key gave the same job")
		}
	})
}

func testIdempotencyKeyPerCaller(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		d.serve(other)
		one := with(puller.PullRequest{Image: good, IdempotencyKey: "build-7"}, func(r *puller.PullRequest) { r.Caller = "token:one" })
		two := with(puller.PullRequest{Image: other, IdempotencyKey: "build-7"}, func(r *puller.PullRequest) { r.Caller = "token:two" })
		first, second := d.submit(one), d.submit(two)
		list, err := d.Prewarm(with(puller.PrewarmRequest{Images: puller.Images{{Image: good}}, IdempotencyKey: "build-7"}, func(r *puller.PrewarmRequest) { r.Caller = "token:three" }))
		if err != nil {
			t.Fatal(err)
		}
		d.succeeded(first, puller.SourcePulled)
		d.succeeded(second, puller.SourcePulled)
		d.end(list)
		for _, restart := range []func(){func() {}, d.restart, d.crash} {
			restart()
			if a, b := d.submit(one), d.submit(two); a.ID != first.ID || b.ID != second.ID || a.ID == b.ID {
				t.Errorf("asked for again, they are %s and %s, not %s and %s", a.ID, b.ID, first.ID, second.ID)
			}
		}
		two.Image = good
		if _, err := d.Pull(two); puller.KindOf(err) != puller.ErrConflict || !strings.Contains(err.Error(), `Idempotency-Key: "build-7" came`) {
			t.Errorf("another request with the key: %v", err)
		}
	})
}

// The same body is the same request, whatever the daemon's configuration makes of
// what it leaves out.
func testIdempotencyKeyDefaultsChanged(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		d.serve(good)
		submits := map[string]func() (puller.Job, error){
			"pull": func() (puller.Job, error) {
				return d.Pull(puller.PullRequest{Image: good, IdempotencyKey: "pull"})
			},
			"prewarm": func() (puller.Job, error) {
				return d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}}, IdempotencyKey: "prewarm"})
			},
			"run": func() (puller.Job, error) {
				return d.Service.Run(puller.RunRequest{Image: good, IdempotencyKey: "run"})
			},
		}
		first := map[string]puller.Job{}
		for name, submit := range submits {
			j, err := submit()
			if err != nil {
				t.Fatal(err)
			}
			first[name] = d.end(j)
		}
		d.change = func(o *jobs.Options) { o.Policy, o.Timeout, o.Retries = puller.PolicyNewer, time.Minute, 7 }
		d.restart()
		for name, submit := range submits {
			if j, err := submit(); j.ID != first[name].ID || err != nil {
				t.Errorf("after the change, the %s gives job %q, not %s: %v", name, j.ID, first[name].ID, err)
			}
		}
	})
}

// The result of a pull that took long is not forgotten because shorter ones
// ended before it.
func testIdempotencyKeyOfLongJob(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		long := d.submit(puller.PullRequest{Image: good, IdempotencyKey: "long"})
		d.engine.Tag(other, d.serve(other))
		for range 150 {
			d.end(d.submit(puller.PullRequest{Image: other}))
		}
		release()
		d.succeeded(long, puller.SourcePulled)
		if again := d.submit(puller.PullRequest{Image: good, IdempotencyKey: "long"}); again.ID != long.ID {
			d.Errorf("its key is forgotten: %+v", again)
		}
	})
}

// Which credentials came with a request is not kept, so it does not count. That some
// came does.
func testIdempotencyKeyWithOtherCredentials(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		release := d.hold(good)
		request := func(password string) puller.PullRequest {
			r := puller.PullRequest{Image: good, IdempotencyKey: "ci-1"}
			if password != "" {
				r.Credentials = credentials(t, password)
			}
			return r
		}
		first := d.submit(request("one"))
		check := func(when string) {
			t.Helper()
			if j, err := d.Pull(request("two")); err != nil || j.ID != first.ID {
				t.Errorf("%s, other credentials give %q, %v", when, j.ID, err)
			}
			if _, err := d.Pull(request("")); puller.KindOf(err) != puller.ErrConflict {
				t.Errorf("%s, no credentials: %v", when, err)
			}
		}
		check("while it runs")
		release()
		d.succeeded(first, puller.SourcePulled)
		check("after its end")
		d.restart()
		check("after a restart")
	})
}
