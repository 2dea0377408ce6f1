package jobs_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestNewer(t *testing.T) {
	t.Parallel()
	t.Run("pulls what moved", testNewerPullsWhatMoved)
	t.Run("beside always", testNewerBesideAlways)
	t.Run("rate limited", testNewerRateLimited)
	t.Run("registry unavailable", testNewerRegistryUnavailable)
	t.Run("denied", testNewerDenied)
}

func testNewerPullsWhatMoved(t *testing.T) {
	one, two := enginetest.NewImage(good, 1), enginetest.NewImage(good, 2)
	name, _, _ := strings.Cut(good, ":")
	byDigest := name + "@" + enginetest.Digest(one)
	down := &fakeRegistry{err: puller.Errorf(puller.ErrRegistryUnavailable, "connection refused")}
	for _, c := range []struct {
		name     string
		image    string
		there    *puller.Image
		registry *fakeRegistry // nil for none
		source   puller.Source
		pulls    int
		asked    int
		notices  int
	}{
		{"unchanged", good, &one, &fakeRegistry{digest: enginetest.Digest(one)}, puller.SourceUpToDate, 0, 1, 0},
		{"moved", good, &one, &fakeRegistry{digest: enginetest.Digest(two)}, puller.SourcePulled, 1, 1, 0},
		{"absent", good, nil, &fakeRegistry{digest: enginetest.Digest(two)}, puller.SourcePulled, 1, 0, 0},
		{"the registry does not answer", good, &one, down, puller.SourcePulled, 1, 1, 1},
		{"the registry does not answer, and nothing has moved", good, &two, down, puller.SourceUpToDate, 1, 1, 1},
		{"there is no registry to ask", good, &one, nil, puller.SourcePulled, 1, 0, 0},
		{"a digest", byDigest, &one, &fakeRegistry{digest: enginetest.Digest(one)}, puller.SourceUpToDate, 0, 1, 0},
		{"a digest that is absent", byDigest, nil, &fakeRegistry{digest: enginetest.Digest(one)}, puller.SourcePulled, 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := patient
			if c.registry != nil {
				c.registry.asked = nil
				o.Registry = c.registry
			}
			withDaemonOf(t, o, nil, func(d *daemon) {
				if c.there != nil {
					d.engine.Tag(c.image, *c.there)
				}
				d.engine.Script(good, enginetest.Serve(two))
				d.engine.Script(byDigest, enginetest.Serve(one))
				secret := credentials(d.T, "hunter2")
				j := d.submit(puller.PullRequest{Image: c.image, Policy: puller.PolicyNewer, Credentials: secret})
				v := d.succeeded(j, c.source)
				if v.Result.Digest == "" || v.Result.ImageID == "" {
					d.Errorf("the result is %+v", v.Result)
				}
				d.wantPulls(c.pulls)
				if got := notices(d.events(j)); len(got) != c.notices || strings.Contains(strings.Join(got, ""), "hunter2") {
					d.Errorf("the notices are %q", got)
				}
				if c.registry != nil && (c.registry.calls() != c.asked || c.asked > 0 && (c.registry.asked[0] != c.image || c.registry.credentials != secret)) {
					d.Errorf("the registry was asked for %q", c.registry.asked)
				}
			})
		})
	}
}

func testNewerBesideAlways(t *testing.T) {
	o := single
	image := enginetest.NewImage(good, 1)
	o.Registry = &fakeRegistry{digest: enginetest.Digest(image)}
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, image)
		d.serve(good)
		release := d.hold(other)
		d.pullAlways(other)
		jobs := []puller.Job{d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNewer}), d.pullAlways(good)}
		d.inState(jobs[0], puller.StateQueued, "")
		release()
		for _, j := range jobs {
			d.succeeded(j, puller.SourceUpToDate)
		}
		d.wantPulls(2)
	})
}

// A registry that limits the rate is left alone, and not asked by the engine's pull
// instead.
func testNewerRateLimited(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	registry := &fakeRegistry{digest: enginetest.Digest(image), err: &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: 30 * time.Second, Err: errors.New("429")}}
	o := patient
	o.Registry = registry
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, image)
		j := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNewer})
		d.serve(other)
		synctest.Wait()              // it has been refused
		waits := d.pullAlways(other) // the registry's too
		<-time.After(20 * time.Second)
		if registry.calls() != 1 {
			d.Errorf("the registry was asked %d times", registry.calls())
		}
		d.wantPulls(0)
		registry.mu.Lock()
		registry.err = nil
		registry.mu.Unlock()
		v := d.succeeded(j, puller.SourceUpToDate)
		if took := v.FinishedAt.Sub(v.CreatedAt); took != 30*time.Second {
			d.Errorf("it took %s", took)
		}
		if got := cooled(d.events(j)); len(got) != 1 || got[0] != 30 {
			d.Errorf("it was told of cool-downs of %v seconds", got)
		}
		d.succeeded(waits, puller.SourcePulled)
		d.wantPulls(1)
	})
}

func testNewerRegistryUnavailable(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	down := &fakeRegistry{err: puller.Errorf(puller.ErrRegistryUnavailable, "connection refused")}
	limits := &fakeRegistry{err: &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: 30 * time.Second, Err: errors.New("429")}}
	const refused = "Get \"https://registry.test/v2/\": dial tcp 192.0.2.1:443: connect: connection refused"
	for _, c := range []struct {
		name     string
		registry *fakeRegistry
		there    bool
		request  puller.PullRequest
		words    string
		kind     puller.ErrorKind // "" for kept
	}{
		{"kept", down, true, puller.PullRequest{Policy: puller.PolicyNewer}, refused, ""},
		{"kept without another try", down, true, puller.PullRequest{Policy: puller.PolicyNewer, Retries: new(int)}, refused, ""},
		{"kept where there is no registry to ask", nil, true, puller.PullRequest{Policy: puller.PolicyNewer}, refused, ""},
		{"kept where the rate is limited", limits, true, puller.PullRequest{Policy: puller.PolicyNewer}, refused, ""},
		{"strict", down, true, puller.PullRequest{Policy: puller.PolicyNewer, Strict: true}, refused, puller.ErrRegistryUnavailable},
		{"strict where the rate is limited", limits, true, puller.PullRequest{Policy: puller.PolicyNewer, Strict: true}, refused, puller.ErrRateLimited},
		{"absent", down, false, puller.PullRequest{Policy: puller.PolicyNewer}, refused, puller.ErrRegistryUnavailable},
		{"always", down, true, puller.PullRequest{Policy: puller.PolicyAlways}, refused, puller.ErrRegistryUnavailable},
		{"denied", down, true, puller.PullRequest{Policy: puller.PolicyNewer}, "unauthorized: authentication required", puller.ErrDenied},
		{"gone", down, true, puller.PullRequest{Policy: puller.PolicyNewer}, "manifest unknown: manifest unknown", puller.ErrNotFound},
		{"another platform", down, true, puller.PullRequest{Policy: puller.PolicyNewer, Platform: "linux/s390x"}, refused, puller.ErrRegistryUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := patient
			if c.registry != nil {
				o.Registry = c.registry
			}
			withDaemonOf(t, o, nil, func(d *daemon) {
				if c.there {
					d.engine.Tag(good, image)
				}
				d.engine.Script(good, fails(c.words))
				c.request.Image = good
				j := d.submit(c.request)
				if c.kind != "" {
					d.failed(j, c.kind)
					return
				}
				v := d.succeeded(j, puller.SourcePresent)
				if v.Result.ImageID != image.ID || v.Result.Digest != enginetest.Digest(image) {
					d.Errorf("the result is %+v", v.Result)
				}
				kept := 0
				for _, e := range d.events(j) {
					if e.Type == "notice" && strings.Contains(e.Message, "what is present is kept") {
						kept++
					}
				}
				if kept != 1 {
					d.Errorf("of what is kept it was told %d times", kept)
				}
			})
		})
	}
}

// What only others have been shown to have access to is not kept for one whom the
// registry can't be asked about.
func testNewerDenied(t *testing.T) {
	o := patient
	o.VerifyAccess, o.Registry = true, &fakeRegistry{err: puller.Errorf(puller.ErrRegistryUnavailable, "connection refused")}
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, enginetest.NewImage(good, 1))
		d.engine.Script(good, fails("dial tcp 192.0.2.1:443: connect: connection refused"))
		d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNewer}), puller.ErrRegistryUnavailable)
	})
}
