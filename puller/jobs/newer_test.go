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

func TestNewerPullsWhatMoved(t *testing.T) {
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
			withDaemonOf(t, o, nil, func(y *daemon) {
				if c.there != nil {
					y.engine.Tag(c.image, *c.there)
				}
				y.engine.Script(good, enginetest.Serve(two))
				y.engine.Script(byDigest, enginetest.Serve(one))
				secret := credentials(y.T, "hunter2")
				j := y.submit(puller.PullRequest{Image: c.image, Policy: puller.PolicyNewer, Credentials: secret})
				v := y.came(j, c.source)
				if v.Result.Digest == "" || v.Result.ImageID == "" {
					y.Errorf("the result is %+v", v.Result)
				}
				y.pulls(c.pulls)
				if got := notices(y.events(j)); len(got) != c.notices || strings.Contains(strings.Join(got, ""), "hunter2") {
					y.Errorf("the notices are %q", got)
				}
				if c.registry != nil && (c.registry.calls() != c.asked || c.asked > 0 && (c.registry.asked[0] != c.image || c.registry.credentials != secret)) {
					y.Errorf("the registry was asked for %q", c.registry.asked)
				}
			})
		})
	}
}

func TestNewerBesideAlways(t *testing.T) {
	o := single
	image := enginetest.NewImage(good, 1)
	o.Registry = &fakeRegistry{digest: enginetest.Digest(image)}
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, image)
		y.serve(good)
		release := y.hold(other)
		y.always(other)
		jobs := []puller.Job{y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNewer}), y.always(good)}
		y.is(jobs[0], puller.StateQueued, "")
		release()
		for _, j := range jobs {
			y.came(j, puller.SourceUpToDate)
		}
		y.pulls(2)
	})
}

// A registry that limits the rate is left alone, and not asked by the engine's pull
// instead.
func TestNewerRateLimited(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	registry := &fakeRegistry{digest: enginetest.Digest(image), err: &puller.Error{Kind: puller.ErrRateLimited, RetryAfter: 30 * time.Second, Err: errors.New("429")}}
	o := patient
	o.Registry = registry
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, image)
		j := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNewer})
		y.serve(other)
		synctest.Wait()          // it has been refused
		waits := y.always(other) // the registry's too
		<-time.After(20 * time.Second)
		if registry.calls() != 1 {
			y.Errorf("the registry was asked %d times", registry.calls())
		}
		y.pulls(0)
		registry.mu.Lock()
		registry.err = nil
		registry.mu.Unlock()
		v := y.came(j, puller.SourceUpToDate)
		if took := v.FinishedAt.Sub(v.CreatedAt); took != 30*time.Second {
			y.Errorf("it took %s", took)
		}
		if got := cooled(y.events(j)); len(got) != 1 || got[0] != 30 {
			y.Errorf("it was told of cool-downs of %v seconds", got)
		}
		y.came(waits, puller.SourcePulled)
		y.pulls(1)
	})
}

func TestNewerRegistryUnavailable(t *testing.T) {
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
			withDaemonOf(t, o, nil, func(y *daemon) {
				if c.there {
					y.engine.Tag(good, image)
				}
				y.engine.Script(good, fails(c.words))
				c.request.Image = good
				j := y.submit(c.request)
				if c.kind != "" {
					y.failed(j, c.kind)
					return
				}
				v := y.came(j, puller.SourcePresent)
				if v.Result.ImageID != image.ID || v.Result.Digest != enginetest.Digest(image) {
					y.Errorf("the result is %+v", v.Result)
				}
				kept := 0
				for _, e := range y.events(j) {
					if e.Type == "notice" && strings.Contains(e.Message, "what is present is kept") {
						kept++
					}
				}
				if kept != 1 {
					y.Errorf("of what is kept it was told %d times", kept)
				}
			})
		})
	}
}

// What only others have been shown to have access to is not kept for one whom the
// registry can't be asked about.
func TestNewerDenied(t *testing.T) {
	o := patient
	o.VerifyAccess, o.Registry = true, &fakeRegistry{err: puller.Errorf(puller.ErrRegistryUnavailable, "connection refused")}
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, enginetest.NewImage(good, 1))
		y.engine.Script(good, fails("dial tcp 192.0.2.1:443: connect: connection refused"))
		y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNewer}), puller.ErrRegistryUnavailable)
	})
}
