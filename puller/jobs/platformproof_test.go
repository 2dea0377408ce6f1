package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestPlatformProof(t *testing.T) {
	t.Parallel()
	t.Run("second of index", testPlatformSecondOfIndex)
	t.Run("name taken", testPlatformNameTaken)
	t.Run("unproven", testPlatformUnproven)
}

// A graph driver leaves the digest of an index with the platform that was pulled
// first. A later one is proven by what the registry names for it.
func testPlatformSecondOfIndex(t *testing.T) {
	index := enginetest.NewImage(good, 1)
	digest := enginetest.Digest(index)
	second := enginetest.NewImage(good, 2)
	second.Platform, second.RepoDigests = "linux/arm64", nil
	name, _, _ := strings.Cut(good, ":")
	const platform = "linux/arm64"
	serve := func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling from good","id":"v1"}`)
		p.Line(`{"status":"Digest: ` + digest + `"}`)
		p.Tag(second)
		p.Line(`{"status":"Status: Downloaded newer image for ` + good + `"}`)
	}
	of := func(m puller.Manifest) map[string]puller.Manifest {
		return map[string]puller.Manifest{name + "@" + digest + " " + platform: m}
	}
	good64 := puller.Manifest{Digest: digest, Image: "sha256:" + strings.Repeat("1", 64), Config: second.ID, Platform: platform}
	for _, c := range []struct {
		name     string
		registry *fakeRegistry
		kind     puller.ErrorKind
		unproven bool
	}{
		{"the registry names it", &fakeRegistry{digest: digest, manifests: of(good64)}, "", false},
		{"the registry names it by its manifest", &fakeRegistry{digest: digest, manifests: of(puller.Manifest{
			Digest: digest, Image: second.ID, Config: "sha256:" + strings.Repeat("0", 64), Platform: platform})}, "", false},
		{"the registry names another", &fakeRegistry{manifests: of(puller.Manifest{Digest: digest, Config: index.ID, Platform: platform})}, puller.ErrCorrupt, true},
		{"the registry names none", &fakeRegistry{manifests: of(puller.Manifest{Digest: digest, Platform: platform})}, puller.ErrCorrupt, true},
		{"the registry has it for another platform", &fakeRegistry{manifests: of(puller.Manifest{Digest: digest, Config: second.ID, Platform: "linux/amd64"})}, puller.ErrPlatformMismatch, true},
		{"the registry does not know the digest", &fakeRegistry{}, puller.ErrTruncated, true},
		{"the registry denies it", &fakeRegistry{manifestErr: puller.Errorf(puller.ErrDenied, "401")}, puller.ErrTruncated, true},
		{"the registry does not answer", &fakeRegistry{manifestErr: puller.Errorf(puller.ErrRegistryUnavailable, "refused")}, puller.ErrRegistryUnavailable, true},
		{"the registry limits the rate", &fakeRegistry{manifestErr: puller.Errorf(puller.ErrRateLimited, "429")}, puller.ErrRateLimited, true},
		{"there is no registry to ask", nil, puller.ErrTruncated, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := once
			if c.registry != nil {
				o.Registry = c.registry
			}
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Tag(good, index)
				d.engine.Script(good, serve)
				request := puller.PullRequest{Image: good, Platform: platform, Policy: puller.PolicyAlways, Credentials: credentials(d.T, "hunter2")}
				j := d.submit(request)
				if c.kind != "" {
					v := d.failed(j, c.kind)
					if strings.Contains(v.Error.Message, "unproven") != c.unproven {
						d.Errorf("the error is %s", v.Error.Message)
					}
					return
				}
				if v := d.succeeded(j, puller.SourcePulled); v.Result.Digest != digest || v.Result.ImageID != second.ID {
					d.Errorf("the result is %+v", v.Result)
				}
				if q := c.registry.queries; len(q) != 1 || q[0].Credentials != request.Credentials {
					d.Errorf("the registry was asked %d times: %+v", len(q), q)
				}
				again := func() {
					d.Helper()
					for policy, source := range map[puller.Policy]puller.Source{puller.PolicyMissing: puller.SourcePresent, puller.PolicyNever: puller.SourcePresent, puller.PolicyNewer: puller.SourceUpToDate} {
						if v := d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: platform, Policy: policy}), source); v.Result.Digest != digest {
							d.Errorf("%s: the result is %+v", policy, v.Result)
						}
					}
					plan, err := d.Plan(d.Context(), puller.PrewarmRequest{Images: puller.Images{{Image: good, Platform: platform, Policy: puller.PolicyNewer}}})
					if err != nil || plan.Images[0].Status != puller.StatusPresent || plan.Images[0].Digest != digest {
						d.Errorf("the plan is %+v, %v", plan, err)
					}
				}
				again()
				d.restart()
				again()
				d.wantPulls(1)
				if n := len(c.registry.queries); n != 1 {
					d.Errorf("the registry was asked %d times for the manifest", n)
				}
				// The first platform is not taken for it.
				d.failed(d.submit(puller.PullRequest{Image: good, Platform: "linux/amd64", Policy: puller.PolicyNever}), puller.ErrNotFound)
			})
		})
	}
}

// Two pulls of one name for two platforms go on at a time, and the other one's end
// comes between this one's end and its proof.
func testPlatformNameTaken(t *testing.T) {
	const platform = "linux/arm64"
	image, theirs := enginetest.NewImage(good, 1), enginetest.NewImage(good, 2)
	image.Platform = platform
	name, _, _ := strings.Cut(good, ":")
	o := defaults
	o.Registry = &fakeRegistry{manifests: map[string]puller.Manifest{
		name + "@" + enginetest.Digest(image) + " " + platform: {Digest: enginetest.Digest(image), Config: image.ID, Platform: platform},
	}}
	withDaemonOf(t, o, nil, func(d *daemon) {
		pulls := 0
		d.engine.Script(good, func(p *enginetest.Pull) {
			enginetest.Serve(image)(p)
			if pulls++; pulls == 1 {
				p.Tag(theirs)
			}
		})
		if v := d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: platform}), puller.SourcePulled); v.Attempt != 2 || v.Result.ImageID != image.ID {
			d.Errorf("the job is %+v, %+v", v, v.Result)
		}
	})
}

// An attempt that ends unproven leaves the tag with the image that it brought.
// The next attempt must not take that for present.
func testPlatformUnproven(t *testing.T) {
	index, second := enginetest.NewImage(good, 1), enginetest.NewImage(good, 2)
	second.Platform, second.RepoDigests = "linux/arm64", nil
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNewer, puller.PolicyAlways} {
		t.Run(string(policy), func(t *testing.T) {
			o := defaults
			o.Registry = &fakeRegistry{manifestErr: puller.Errorf(puller.ErrDenied, "401")}
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.Tag(good, index)
				d.engine.Script(good, func(p *enginetest.Pull) {
					p.Line(`{"status":"Pulling from good","id":"v1"}`)
					p.Line(`{"status":"Digest: ` + enginetest.Digest(index) + `"}`)
					p.Tag(second)
					p.Line(`{"status":"Status: Downloaded newer image for ` + good + `"}`)
				})
				retries := 2
				d.failed(d.submit(puller.PullRequest{Image: good, Platform: "linux/arm64", Policy: policy, Retries: &retries}), puller.ErrTruncated)
				d.wantPulls(3)
			})
		})
	}
}
