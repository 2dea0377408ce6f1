package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

// guarded is a registry that answers only calls with one of the passwords, and
// the options of a Service that verifies access.
func guarded(image puller.Image, may ...puller.Credentials) (*fakeRegistry, jobs.Options) {
	r := &fakeRegistry{digest: enginetest.Digest(image), allows: func(c puller.Credentials) bool {
		for _, m := range may {
			if c == m {
				return true
			}
		}
		return false
	}}
	o := defaults
	o.Registry, o.VerifyAccess = r, true
	return r, o
}

func TestAccess(t *testing.T) {
	t.Parallel()
	t.Run("verified", testAccessVerified)
	t.Run("forgotten at restart", testAccessForgottenAtRestart)
	t.Run("not assumed after restart", testAccessNotAssumedAfterRestart)
	t.Run("public image once", testAccessPublicImageOnce)
	t.Run("moved tag", testAccessMovedTag)
	t.Run("concurrent callers", testAccessConcurrentCallers)
	t.Run("registry unavailable", testAccessRegistryUnavailable)
	t.Run("unverified", testAccessUnverified)
	t.Run("policy always", testAccessPolicyAlways)
}

func testAccessVerified(t *testing.T) {
	ada, bob, eve := credentials(t, "ada"), credentials(t, "bob"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNever, puller.PolicyNewer} {
		registry, o := guarded(image, ada, bob)
		withDaemonOf(t, o, nil, func(d *daemon) {
			d.engine.Script(good, enginetest.Serve(image))
			d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
			if policy == puller.PolicyNewer { // what it is told by HEAD is what it needs
				d.engine.Script(good, func(p *enginetest.Pull) { p.Refuse(403, "denied: not for you") })
			}
			heads := registry.calls()
			want := func(c puller.Credentials, asked int) {
				d.Helper()
				source := puller.SourcePresent
				if policy == puller.PolicyNewer {
					source, asked = puller.SourceUpToDate, 1
				}
				d.succeeded(d.submit(puller.PullRequest{Image: good, Policy: policy, Credentials: c}), source)
				if got := registry.calls() - heads; got != asked {
					d.Errorf("%s: the registry was asked %d times, not %d", policy, got, asked)
				}
				heads = registry.calls()
			}
			want(ada, 0) // whose it is
			want(bob, 1)
			want(bob, 0)
			for _, c := range []puller.Credentials{eve, {}} {
				v := d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy, Credentials: c}), puller.ErrDenied)
				if strings.Contains(v.Error.Message, "present") {
					d.Errorf("it is told what is there: %s", v.Error.Message)
				}
			}
			heads = registry.calls()
			want(ada, 0)
			if policy != puller.PolicyNewer {
				d.wantPulls(1)
			}
		})
	}
}

func testAccessForgottenAtRestart(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Script(good, enginetest.Serve(image))
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
		d.restart()
		d.failed(d.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
		d.failed(d.submit(puller.PullRequest{Image: good}), puller.ErrDenied)
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
		if got := registry.calls(); got != 3 {
			d.Errorf("the registry was asked %d times", got)
		}
	})
}

func testAccessNotAssumedAfterRestart(t *testing.T) {
	ada := credentials(t, "ada")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.hold(good)
		j := d.submit(puller.PullRequest{Image: good, Credentials: ada})
		d.inState(j, puller.StateActive, puller.PhasePulling)
		d.engine.Tag(good, image)
		d.crash()
		d.failed(j, puller.ErrDenied)
	})
}

func testAccessPublicImageOnce(t *testing.T) {
	ada := credentials(t, "ada")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image, puller.Credentials{})
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Script(good, enginetest.Serve(image))
		d.succeeded(d.submit(puller.PullRequest{Image: good}), puller.SourcePulled)
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
		if got := registry.calls(); got != 0 {
			d.Errorf("the registry was asked %d times", got)
		}
	})
}

func testAccessMovedTag(t *testing.T) {
	ada := credentials(t, "ada")
	one, two := enginetest.NewImage(good, 1), enginetest.NewImage(good, 2)
	registry, o := guarded(one, ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Script(good, enginetest.Serve(one))
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
		d.engine.Tag(good, two)
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
		if got := registry.calls(); got != 1 {
			d.Errorf("the registry was asked %d times", got)
		}
	})
}

func testAccessConcurrentCallers(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		gate := make(chan struct{})
		d.engine.Script(good, func(p *enginetest.Pull) {
			if p.Auth() != ada.HeaderFor(good) {
				p.Refuse(500, "unauthorized: authentication required")
				return
			}
			if p.Until(gate) {
				enginetest.Serve(image)(p)
			}
		})
		hers := d.submit(puller.PullRequest{Image: good, Credentials: ada})
		its := d.submit(puller.PullRequest{Image: good, Credentials: eve})
		same := d.submit(puller.PullRequest{Image: good, Credentials: ada})
		d.failed(its, puller.ErrDenied)
		d.wantPulls(2)
		close(gate)
		d.succeeded(hers, puller.SourcePulled)
		d.succeeded(same, puller.SourcePulled)
		d.failed(d.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
		run, err := d.Service.Run(puller.RunRequest{Image: good, Credentials: eve})
		if err != nil {
			d.Fatal(err)
		}
		d.failed(run, puller.ErrDenied)
		list, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}}, Credentials: eve})
		if err != nil {
			d.Fatal(err)
		}
		d.failed(list, puller.ErrDenied)
		d.wantPulls(2)
	})
}

func testAccessRegistryUnavailable(t *testing.T) {
	ada := credentials(t, "ada")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image)
	registry.err, registry.allows = puller.Errorf(puller.ErrRegistryUnavailable, "connection refused"), nil
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, image)
		d.failed(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.ErrRegistryUnavailable)
		if got := registry.calls(); got != 1+o.Retries {
			d.Errorf("the registry was asked %d times", got)
		}
		d.wantPulls(0)
	})
}

func testAccessUnverified(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image)
	o.VerifyAccess = false
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, image)
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: credentials(t, "eve")}), puller.SourcePresent)
		if registry.calls() != 0 {
			d.Error("the registry was asked")
		}
	})
}

func TestOwnCredentialsWithoutOthers(t *testing.T) {
	t.Parallel()
	ours, ada := credentials(t, "ours"), credentials(t, "ada")
	o := defaults
	o.Registry = &fakeRegistry{own: ours}
	withDaemonOf(t, o, nil, func(d *daemon) {
		release := d.hold(good)
		one, two := d.pullAlways(good), d.pullAlways(good)
		d.wantPulls(1) // they share it
		if got := d.engine.LastAuth(); got != ours.HeaderFor(good) {
			d.Errorf("the engine got %q", got)
		}
		d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: ada})
		d.wantPulls(2)
		if got := d.engine.LastAuth(); got != ada.HeaderFor(good) {
			d.Errorf("the engine got %q", got)
		}
		release()
		d.succeeded(one, puller.SourcePulled)
		d.succeeded(two, puller.SourcePulled)
		for _, e := range d.lines(one) {
			if strings.Contains(e, "ours") || strings.Contains(e, ours.Header()) {
				d.Errorf("an event has the secret in it: %s", e)
			}
		}
	})
}

func TestOwnCredentialsNotFound(t *testing.T) {
	t.Parallel()
	o := defaults
	o.Registry = &fakeRegistry{ownErr: puller.Errorf(puller.ErrInternal, "the helper did not answer")}
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.serve(good)
		j := d.pullAlways(good)
		d.succeeded(j, puller.SourcePulled)
		if got := notices(d.events(j)); len(got) != 1 || !strings.Contains(got[0], "without credentials: the helper did not answer") {
			d.Errorf("the notices are %q", got)
		}
	})
}

func testAccessPolicyAlways(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image, ada)
	o.Concurrency = 1
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, image)
		gate := make(chan struct{})
		d.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(`{"status":"Pulling from good","id":"v1"}`)
			if p.Until(gate) {
				p.Fail("denied: requested access to the resource is denied")
			}
		})
		release := d.hold(other)
		d.pullAlways(other) // has the only slot, so that the next two wait together
		always := d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: eve})
		missing := d.submit(puller.PullRequest{Image: good, Credentials: eve})
		release()
		d.failed(missing, puller.ErrDenied)
		d.inState(always, puller.StateActive, puller.PhasePulling)
		late := d.submit(puller.PullRequest{Image: good, Credentials: eve})
		d.inState(late, puller.StateActive, puller.PhasePulling)
		close(gate)
		d.failed(always, puller.ErrDenied)
		d.failed(late, puller.ErrDenied)
		if got := registry.calls(); got != 1 {
			d.Errorf("the registry was asked %d times", got)
		}
	})
}
