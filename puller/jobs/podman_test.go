package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

func TestPodman(t *testing.T) {
	t.Parallel()
	t.Run("last line", testPodmanLastLine)
	t.Run("digest under other name", testPodmanDigestUnderOtherName)
	t.Run("variant", testPodmanVariant)
}

// Podman ends a good pull with neither digest nor status. Its own last line is
// believed, of an engine that says that it is Podman.
func testPodmanLastLine(t *testing.T) {
	image, old := enginetest.NewImage(good, 1), enginetest.NewImage(good, 2)
	old.ID = "sha256:" + strings.Repeat("e", 64) // other first digits
	recorded := image
	recorded.ID = "sha256:26f33d9cd6c79fe56dd2e257e6b38e879062cccd5788e65254e725daff131d10"
	id := strings.TrimPrefix(image.ID, "sha256:")[:12]
	last := func(lines ...string) enginetest.Script {
		return func(p *enginetest.Pull) {
			p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
			p.Tag(image)
			for _, l := range lines {
				p.Line(l)
			}
		}
	}
	complete := `{"status":"Download complete","progressDetail":{},"id":"` + id + `"}`
	for _, c := range []struct {
		name   string
		podman bool
		script enginetest.Script
		kind   puller.ErrorKind
	}{
		{"Podman's own words", true, enginetest.ServeAsPodman(image), ""},
		{"Podman's words of an engine that is none", false, enginetest.ServeAsPodman(image), puller.ErrTruncated},
		{"as recorded", true, enginetest.Replay(transcripts.Load("engine-podman/fresh"), &recorded), ""},
		{"as recorded where nothing is new", true, enginetest.Replay(transcripts.Load("engine-podman/up-to-date"), &recorded), ""},
		{"as recorded, of another image", true, enginetest.Replay(transcripts.Load("engine-podman/fresh"), &image), puller.ErrTruncated},
		{"as recorded where the registry went away", true, enginetest.Replay(transcripts.Load("engine-podman/registry-killed-midway"), nil), puller.ErrRegistryUnavailable},
		{"a later Podman's words", true, last(`{"status":"Pull complete","id":"` + id + `"}`), ""},
		{"cut after a layer", true, last(`{"status":"Download complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`), puller.ErrTruncated},
		{"cut after one that exists", true, last(`{"status":"Already exists","progressDetail":{},"id":"aaaaaaaaaaaa"}`), puller.ErrTruncated},
		{"another line comes after it", true, last(complete, `{"status":"Downloading","progressDetail":{"current":5,"total":9},"id":"bbbbbbbbbbbb"}`), puller.ErrTruncated},
		{"the ID is too short to say anything", true, last(`{"status":"Download complete","progressDetail":{},"id":"` + id[:3] + `"}`), puller.ErrTruncated},
		{"the ID is empty", true, last(`{"status":"Download complete","progressDetail":{},"id":""}`), puller.ErrTruncated},
		{"nothing", true, func(*enginetest.Pull) {}, puller.ErrTruncated},
		{"it names what came, and the name is an older one's", true, func(p *enginetest.Pull) {
			enginetest.ServeAsPodman(image)(p)
			p.Tag(old)
		}, puller.ErrTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				if c.podman {
					d.engine.UsePodman()
				}
				d.engine.Tag(good, old)
				d.engine.Script(good, c.script)
				j := d.pullAlways(good)
				if c.kind != "" {
					d.failed(j, c.kind)
					return
				}
				if v := d.succeeded(j, puller.SourcePulled); v.Result.Digest != enginetest.Digest(image) || v.Result.ImageID != image.ID && v.Result.ImageID != recorded.ID {
					d.Errorf("the result is %+v", v.Result)
				}
			})
		})
	}
}

// Another engine may have come to answer since the daemon started.
func TestEngineReplaced(t *testing.T) {
	t.Parallel()
	withDaemonOf(t, once, nil, func(d *daemon) {
		d.engine.Script(good, enginetest.ServeAsPodman(enginetest.NewImage(good, 1)))
		d.failed(d.pullAlways(good), puller.ErrTruncated)
		d.engine.Kill()
		d.engine.UsePodman()
		d.engine.Revive()
		d.succeeded(d.pullAlways(good), puller.SourceUpToDate)
	})
}

// Podman finds NAME@DIGEST by the digest alone. An image is there under a name only
// if its repository has the digest.
func testPodmanDigestUnderOtherName(t *testing.T) {
	hello := enginetest.NewImage("registry.test/hello:v1", 1)
	digest := enginetest.Digest(hello)
	const team = "registry.test/team/app"
	setup := func(d *daemon) {
		d.engine.UsePodman()
		d.engine.Tag("registry.test/hello:v1", hello)
	}
	for _, policy := range []puller.Policy{puller.PolicyMissing, puller.PolicyNever, puller.PolicyNewer, puller.PolicyAlways} {
		t.Run(string(policy), func(t *testing.T) {
			o := once
			o.Registry = &fakeRegistry{digest: digest}
			withDaemonOf(t, o, nil, func(d *daemon) {
				setup(d)
				ref := team + "@" + digest
				v := d.failed(d.submit(puller.PullRequest{Image: ref, Policy: policy}), puller.ErrNotFound)
				if policy == puller.PolicyNever && !strings.Contains(v.Error.Message, "only under other names") {
					d.Errorf("the error is %s", v.Error.Message)
				}
				plan, err := d.Plan(d.Context(), puller.PrewarmRequest{Images: puller.Images{{Image: ref, Policy: policy}}})
				if err != nil || plan.Images[0].Status != puller.StatusMissing {
					d.Errorf("the plan is %+v, %v", plan, err)
				}
				if j, err := d.Service.Run(puller.RunRequest{Image: ref, Policy: policy}); err != nil || d.end(j).Error == nil || d.engine.Counts().Created != 0 {
					d.Errorf("the run is %+v, %v, and %d containers were created", d.end(j), err, d.engine.Counts().Created)
				}
				if _, err := d.Image(d.Context(), ref, "", nil); puller.KindOf(err) != puller.ErrNotFound {
					d.Errorf("it is shown: %v", err)
				}
				// Under its own name it is there.
				d.succeeded(d.submit(puller.PullRequest{Image: "registry.test/hello@" + digest}), puller.SourcePresent)
			})
		})
	}
	t.Run("where the name has it", func(t *testing.T) {
		withDaemonOf(t, once, nil, func(d *daemon) {
			setup(d)
			ref := team + "@" + digest
			moved := enginetest.NewImage(ref, 1)
			moved.RepoDigests = append(moved.RepoDigests, hello.RepoDigests...)
			d.engine.Script(ref, enginetest.ServeAsPodman(moved))
			if v := d.succeeded(d.submit(puller.PullRequest{Image: ref}), puller.SourcePulled); v.Result.Digest != digest {
				d.Errorf("the result is %+v", v.Result)
			}
			d.succeeded(d.submit(puller.PullRequest{Image: ref}), puller.SourcePresent)
			d.wantPulls(1)
		})
	})
	t.Run("where only the pull's end is told", func(t *testing.T) {
		withDaemonOf(t, once, nil, func(d *daemon) {
			setup(d)
			ref := team + "@" + digest
			d.engine.Script(ref, enginetest.ServeAsPodman(hello))
			d.failed(d.submit(puller.PullRequest{Image: ref}), puller.ErrTruncated)
		})
	})
}

// Podman tells no variants; the registry does.
func testPodmanVariant(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	image.Platform = "linux/arm/v6"
	digest := enginetest.Digest(image)
	for _, c := range []struct {
		name     string
		manifest puller.Manifest
		err      error
		kind     puller.ErrorKind
	}{
		{"it is the variant's image", puller.Manifest{Digest: digest, Config: image.ID, Platform: "linux/arm/v6"}, nil, ""},
		{"it is another image", puller.Manifest{Digest: digest, Config: digest, Platform: "linux/arm/v6"}, nil, puller.ErrPlatformMismatch},
		{"the registry has it for another variant", puller.Manifest{Digest: digest, Config: image.ID, Platform: "linux/arm/v7"}, nil, puller.ErrPlatformMismatch},
		{"the registry does not know it", puller.Manifest{}, puller.Errorf(puller.ErrNotFound, "404"), puller.ErrPlatformMismatch},
		{"the registry does not answer", puller.Manifest{}, puller.Errorf(puller.ErrRegistryUnavailable, "refused"), puller.ErrRegistryUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := once
			r := &fakeRegistry{manifests: map[string]puller.Manifest{good + " linux/arm/v6": c.manifest}, manifestErr: c.err}
			o.Registry = r
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.UsePodman()
				d.engine.Script(good, enginetest.ServeAsPodman(image))
				request := puller.PullRequest{Image: good, Platform: "linux/arm/v6"}
				j := d.submit(request)
				if c.kind != "" {
					d.failed(j, c.kind)
					return
				}
				d.succeeded(j, puller.SourcePulled)
				asked := len(r.queries)
				// What was proven is known.
				if v := d.succeeded(d.submit(request), puller.SourcePresent); v.Result.Digest != digest {
					d.Errorf("the result is %+v", v.Result)
				}
				request.Platform = "linux/arm/v5"
				request.Policy = puller.PolicyNever
				d.failed(d.submit(request), puller.ErrNotFound)
				d.wantPulls(1)
				if len(r.queries) != asked {
					d.Errorf("the registry was asked %v", r.queries)
				}
			})
		})
	}
}
