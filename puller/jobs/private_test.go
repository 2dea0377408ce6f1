package jobs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
)

// bare is an image that a graph driver shows no digest of, since it gave the digest
// of the index to the platform that came first.
func bare(seed int) puller.Image {
	i := enginetest.NewImage(good, seed)
	i.RepoDigests = nil
	return i
}

func TestPrivateWithoutDigest(t *testing.T) {
	ada, bob, eve := credentials(t, "ada"), credentials(t, "bob"), credentials(t, "eve")
	for how, then := range map[string]func(y *daemon){
		"at once": func(*daemon) {}, "after a restart": (*daemon).restart, "after a crash": (*daemon).crash,
		"after two restarts": func(y *daemon) { y.restart(); y.restart() },
		"after its job is forgotten": func(y *daemon) {
			y.down(func() { y.store.Prune(time.Now().Add(time.Hour), 0, 0) })
			y.restart()
		},
		"where the store was damaged": func(y *daemon) { y.store.Damage(); y.crash() },
	} {
		t.Run(how, func(t *testing.T) {
			image := enginetest.NewImage(good, 1)
			registry, o := guarded(image, ada, bob)
			registry.manifests = map[string]puller.Manifest{good + " linux/amd64": {Digest: enginetest.Digest(image), Config: image.ID, Platform: "linux/amd64"}}
			withDaemonOf(t, o, nil, func(y *daemon) {
				y.engine.Script(good, enginetest.Serve(image))
				y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
				y.engine.Tag(good, bare(1))
				then(y)
				for _, c := range []puller.Credentials{eve, {}} {
					y.failed(y.submit(puller.PullRequest{Image: good, Credentials: c}), puller.ErrDenied)
					y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: c}), puller.ErrDenied)
				}
				y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
				y.came(y.submit(puller.PullRequest{Image: good, Credentials: bob}), puller.SourcePresent)
			})
		})
	}
}

func TestPrivateAfterFailedAttempt(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	for how, script := range map[string]enginetest.Script{
		"the stream is cut":  func(p *enginetest.Pull) { p.Tag(bare(1)); p.Line(`{"status":"Pulling from image","id":"v1"}`); p.Cut() },
		"it tells of no end": func(p *enginetest.Pull) { p.Tag(bare(1)); p.Line(`{"status":"Pulling from image","id":"v1"}`) },
		"it ends with another": func(p *enginetest.Pull) {
			p.Tag(bare(1))
			p.Line(`{"status":"Digest: sha256:` + strings.Repeat("f", 64) + `"}`)
		},
		"it ends with a fault": func(p *enginetest.Pull) { p.Tag(bare(1)); p.Line(`{"errorDetail":{"message":"x"},"error":"x"}`) },
	} {
		t.Run(how, func(t *testing.T) {
			_, o := guarded(image, ada)
			o.Retries = 0
			withDaemonOf(t, o, nil, func(y *daemon) {
				y.engine.Script(good, script)
				if v := y.end(y.submit(puller.PullRequest{Image: good, Credentials: ada})); v.State != puller.StateFailed {
					y.Fatalf("it is %s", v.State)
				}
				y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: eve}), puller.ErrDenied)
				y.restart()
				y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: eve}), puller.ErrDenied)
			})
		})
	}
}

func TestPrivateAfterCrash(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	_, o := guarded(enginetest.NewImage(good, 1), ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.hold(good)
		j := y.submit(puller.PullRequest{Image: good, Credentials: ada})
		y.is(j, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		y.down(func() { y.engine.Tag(good, bare(1)) })
		y.crash()
		y.failed(j, puller.ErrDenied)
		y.failed(y.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: eve}), puller.ErrDenied)
	})
}

func TestPrivateNotIfBuiltHere(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	registry, o := guarded(enginetest.NewImage(good, 1), ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Tag(good, bare(2))
		for range 2 {
			for _, c := range []puller.Credentials{ada, eve, {}} {
				y.came(y.submit(puller.PullRequest{Image: good, Credentials: c}), puller.SourcePresent)
			}
			y.crash()
		}
		if n := registry.calls(); n != 0 {
			y.Errorf("the registry was asked %d times", n)
		}
	})
}

// What came while nobody's access was verified is private when it is.
func TestPrivateVerificationLater(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	o.VerifyAccess = false
	withDaemonOf(t, o, nil, func(y *daemon) {
		y.engine.Script(good, enginetest.Serve(image))
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
		y.engine.Tag(good, bare(1))
		y.came(y.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.SourcePresent)
		y.change = func(o *jobs.Options) { o.VerifyAccess = true }
		y.restart()
		y.failed(y.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
	})
}

func TestPrivateSaveFails(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(y *daemon) {
		release := y.hold(good)
		j := y.submit(puller.PullRequest{Image: good, Credentials: ada})
		y.is(j, puller.StateActive, puller.PhasePulling)
		y.store.Fail(errors.New("no space left on device"))
		release()
		y.came(j, puller.SourcePulled)
		y.store.Fail(nil)
		<-time.After(2 * time.Second)
		y.engine.Tag(good, bare(1))
		y.failed(y.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
		// The next one takes it along.
		y.engine.Script(other, enginetest.Serve(enginetest.NewImage(other, 2)))
		y.came(y.submit(puller.PullRequest{Image: other, Credentials: ada}), puller.SourcePulled)
		y.restart()
		y.failed(y.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
	})
}
