package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

// guarded is a registry that answers only who brings one of the passwords, and
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

func TestAccessVerified(t *testing.T) {
	ada, bob, eve := credentials(t, "ada"), credentials(t, "bob"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNever, puller.PolicyNewer} {
		registry, o := guarded(image, ada, bob)
		withDaemonOf(t, o, nil, func(y *daemon) {
			y.engine.Script(good, enginetest.Serve(image))
			y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
			if policy == puller.PolicyNewer { // what it is told by HEAD is what it needs
				y.engine.Script(good, func(p *enginetest.Pull) { p.Refuse(403, "denied: not for you") })
			}
			heads := registry.calls()
			want := func(c puller.Credentials, asked int) {
				y.Helper()
				source := puller.SourcePresent
				if policy == puller.PolicyNewer {
					source, asked = puller.SourceUpToDate, 1
				}
				y.came(y.submit(puller.PullRequest{Image: good, Policy: policy, Credentials: c}), source)
				if got := registry.calls() - heads; got != asked {
					y.Errorf("%s: the registry was asked %d times, not %d", policy, got, asked)
				}
				heads = registry.calls()
			}
			want(ada, 0) // whose it is
			want(bob, 1)
			want(bob, 0)
			for _, c := range []puller.Credentials{eve, {}} {
				v := y.failed(y.submit(puller.PullRequest{Image: good, Policy: policy, Credentials: c}), puller.ErrDenied)
				if strings.Contains(v.Error.Message, "present") {
					y.Errorf("it is told what is there: %s", v.Error.Message)
				}
			}
			heads = registry.calls()
			want(ada, 0)
			if policy != puller.PolicyNewer {
				y.pulls(1)
			}
		})
	}
}

func TestAccessForgottenAtRestart(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Script(good, enginetest.Serve(image))
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
		y.restart()
		y.failed(y.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
		y.failed(y.submit(puller.PullRequest{Image: good}), puller.ErrDenied)
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
		if got := registry.calls(); got != 3 {
			y.Errorf("the registry was asked %d times", got)
		}
	})
}

func TestAccessNotAssumedAfterRestart(t *testing.T) {
	ada := credentials(t, "ada")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.hold(good)
		j := y.submit(puller.PullRequest{Image: good, Credentials: ada})
		y.is(j, puller.StateActive, puller.PhasePulling)
		y.engine.Tag(good, image)
		y.crash()
		y.failed(j, puller.ErrDenied)
	})
}

func TestAccessPublicImageOnce(t *testing.T) {
	ada := credentials(t, "ada")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image, puller.Credentials{})
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Script(good, enginetest.Serve(image))
		y.came(y.submit(puller.PullRequest{Image: good}), puller.SourcePulled)
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
		if got := registry.calls(); got != 0 {
			y.Errorf("the registry was asked %d times", got)
		}
	})
}

func TestAccessMovedTag(t *testing.T) {
	ada := credentials(t, "ada")
	one, two := enginetest.NewImage(good, 1), enginetest.NewImage(good, 2)
	registry, o := guarded(one, ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Script(good, enginetest.Serve(one))
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
		y.engine.Tag(good, two)
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
		if got := registry.calls(); got != 1 {
			y.Errorf("the registry was asked %d times", got)
		}
	})
}

func TestAccessConcurrentCallers(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		gate := make(chan struct{})
		y.engine.Script(good, func(p *enginetest.Pull) {
			if p.Auth() != ada.HeaderFor(good) {
				p.Refuse(500, "unauthorized: authentication required")
				return
			}
			if p.Until(gate) {
				enginetest.Serve(image)(p)
			}
		})
		hers := y.submit(puller.PullRequest{Image: good, Credentials: ada})
		its := y.submit(puller.PullRequest{Image: good, Credentials: eve})
		same := y.submit(puller.PullRequest{Image: good, Credentials: ada})
		y.failed(its, puller.ErrDenied)
		y.pulls(2)
		close(gate)
		y.came(hers, puller.SourcePulled)
		y.came(same, puller.SourcePulled)
		y.failed(y.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
		run, err := y.Service.Run(puller.RunRequest{Image: good, Credentials: eve})
		if err != nil {
			y.Fatal(err)
		}
		y.failed(run, puller.ErrDenied)
		list, err := y.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: good}}, Credentials: eve})
		if err != nil {
			y.Fatal(err)
		}
		y.failed(list, puller.ErrDenied)
		y.pulls(2)
	})
}

func TestAccessRegistryUnavailable(t *testing.T) {
	ada := credentials(t, "ada")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image)
	registry.err, registry.allows = puller.Errorf(puller.ErrRegistryUnavailable, "connection refused"), nil
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, image)
		y.failed(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.ErrRegistryUnavailable)
		if got := registry.calls(); got != 1+o.Retries {
			y.Errorf("the registry was asked %d times", got)
		}
		y.pulls(0)
	})
}

func TestAccessUnverified(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image)
	o.VerifyAccess = false
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, image)
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: credentials(t, "eve")}), puller.SourcePresent)
		if registry.calls() != 0 {
			y.Error("the registry was asked")
		}
	})
}

func TestOwnCredentialsWithoutOthers(t *testing.T) {
	ours, ada := credentials(t, "ours"), credentials(t, "ada")
	o := defaults
	o.Registry = &fakeRegistry{own: ours}
	withDaemonOf(t, o, nil, func(y *daemon) {
		release := y.hold(good)
		one, two := y.always(good), y.always(good)
		y.pulls(1) // they share it
		if got := y.engine.LastAuth(); got != ours.HeaderFor(good) {
			y.Errorf("the engine got %q", got)
		}
		y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: ada})
		y.pulls(2)
		if got := y.engine.LastAuth(); got != ada.HeaderFor(good) {
			y.Errorf("the engine got %q", got)
		}
		release()
		y.came(one, puller.SourcePulled)
		y.came(two, puller.SourcePulled)
		for _, e := range y.lines(one) {
			if strings.Contains(e, "ours") || strings.Contains(e, ours.Header()) {
				y.Errorf("an event has the secret in it: %s", e)
			}
		}
	})
}

func TestOwnCredentialsNotFound(t *testing.T) {
	o := defaults
	o.Registry = &fakeRegistry{ownErr: puller.Errorf(puller.ErrInternal, "the helper did not answer")}
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.serve(good)
		j := y.always(good)
		y.came(j, puller.SourcePulled)
		if got := notices(y.events(j)); len(got) != 1 || !strings.Contains(got[0], "without credentials: the helper did not answer") {
			y.Errorf("the notices are %q", got)
		}
	})
}

func TestAccessPolicyAlways(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	registry, o := guarded(image, ada)
	o.Concurrency = 1
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, image)
		gate := make(chan struct{})
		y.engine.Script(good, func(p *enginetest.Pull) {
			p.Line(`{"status":"Pulling from good","id":"v1"}`)
			if p.Until(gate) {
				p.Fail("denied: requested access to the resource is denied")
			}
		})
		release := y.hold(other)
		y.always(other) // has the only slot, so that the next two wait together
		always := y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyAlways, Credentials: eve})
		missing := y.submit(puller.PullRequest{Image: good, Credentials: eve})
		release()
		y.failed(missing, puller.ErrDenied)
		y.is(always, puller.StateActive, puller.PhasePulling)
		late := y.submit(puller.PullRequest{Image: good, Credentials: eve})
		y.is(late, puller.StateActive, puller.PhasePulling)
		close(gate)
		y.failed(always, puller.ErrDenied)
		y.failed(late, puller.ErrDenied)
		if got := registry.calls(); got != 1 {
			y.Errorf("the registry was asked %d times", got)
		}
	})
}
