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

func TestPrivate(t *testing.T) {
	t.Parallel()
	t.Run("without digest", testPrivateWithoutDigest)
	t.Run("after failed attempt", testPrivateAfterFailedAttempt)
	t.Run("after crash", testPrivateAfterCrash)
	t.Run("not if built here", testPrivateNotIfBuiltHere)
	t.Run("verification later", testPrivateVerificationLater)
	t.Run("save fails", testPrivateSaveFails)
}

func testPrivateWithoutDigest(t *testing.T) {
	ada, bob, eve := credentials(t, "ada"), credentials(t, "bob"), credentials(t, "eve")
	for how, then := range map[string]func(d *daemon){
		"at once": func(*daemon) {}, "after a restart": (*daemon).restart, "after a crash": (*daemon).crash,
		"after two restarts": func(d *daemon) { d.restart(); d.restart() },
		"after its job is forgotten": func(d *daemon) {
			d.down(func() { d.store.Prune(time.Now().Add(time.Hour), 0, 0) })
			d.restart()
		},
		"where the store was damaged": func(d *daemon) { d.store.Damage(); d.crash() },
	} {
		t.Run(how, func(t *testing.T) {
			image := enginetest.NewImage(good, 1)
			registry, o := guarded(image, ada, bob)
			registry.manifests = map[string]puller.Manifest{good + " linux/amd64": {Digest: enginetest.Digest(image), Config: image.ID, Platform: "linux/amd64"}}
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Script(good, enginetest.Serve(image))
				d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
				d.engine.Tag(good, bare(1))
				then(d)
				for _, c := range []puller.Credentials{eve, {}} {
					d.failed(d.submit(puller.PullRequest{Image: good, Credentials: c}), puller.ErrDenied)
					d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: c}), puller.ErrDenied)
				}
				d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePresent)
				d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: bob}), puller.SourcePresent)
			})
		})
	}
}

func testPrivateAfterFailedAttempt(t *testing.T) {
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
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Script(good, script)
				if v := d.end(d.submit(puller.PullRequest{Image: good, Credentials: ada})); v.State != puller.StateFailed {
					d.Fatalf("it is %s", v.State)
				}
				d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: eve}), puller.ErrDenied)
				d.restart()
				d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: eve}), puller.ErrDenied)
			})
		})
	}
}

func testPrivateAfterCrash(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	_, o := guarded(enginetest.NewImage(good, 1), ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.hold(good)
		j := d.submit(puller.PullRequest{Image: good, Credentials: ada})
		d.inState(j, puller.StateActive, puller.PhasePulling)
		<-time.After(time.Second)
		d.down(func() { d.engine.Tag(good, bare(1)) })
		d.crash()
		d.failed(j, puller.ErrDenied)
		d.failed(d.submit(puller.PullRequest{Image: good, Policy: puller.PolicyNever, Credentials: eve}), puller.ErrDenied)
	})
}

func testPrivateNotIfBuiltHere(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	registry, o := guarded(enginetest.NewImage(good, 1), ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Tag(good, bare(2))
		for range 2 {
			for _, c := range []puller.Credentials{ada, eve, {}} {
				d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: c}), puller.SourcePresent)
			}
			d.crash()
		}
		if n := registry.calls(); n != 0 {
			d.Errorf("the registry was asked %d times", n)
		}
	})
}

// What came while nobody's access was verified is private when it is.
func testPrivateVerificationLater(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	o.VerifyAccess = false
	withDaemonOf(t, o, nil, func(d *daemon) {
		d.engine.Script(good, enginetest.Serve(image))
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: ada}), puller.SourcePulled)
		d.engine.Tag(good, bare(1))
		d.succeeded(d.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.SourcePresent)
		d.change = func(o *jobs.Options) { o.VerifyAccess = true }
		d.restart()
		d.failed(d.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
	})
}

func testPrivateSaveFails(t *testing.T) {
	ada, eve := credentials(t, "ada"), credentials(t, "eve")
	image := enginetest.NewImage(good, 1)
	_, o := guarded(image, ada)
	withDaemonOf(t, o, nil, func(d *daemon) {
		release := d.hold(good)
		j := d.submit(puller.PullRequest{Image: good, Credentials: ada})
		d.inState(j, puller.StateActive, puller.PhasePulling)
		d.store.Fail(errors.New("no space left on device"))
		release()
		d.succeeded(j, puller.SourcePulled)
		d.store.Fail(nil)
		<-time.After(2 * time.Second)
		d.engine.Tag(good, bare(1))
		d.failed(d.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
		// The next one takes it along.
		d.engine.Script(other, enginetest.Serve(enginetest.NewImage(other, 2)))
		d.succeeded(d.submit(puller.PullRequest{Image: other, Credentials: ada}), puller.SourcePulled)
		d.restart()
		d.failed(d.submit(puller.PullRequest{Image: good, Credentials: eve}), puller.ErrDenied)
	})
}
