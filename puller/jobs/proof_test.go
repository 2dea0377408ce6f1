package jobs_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

func TestProof(t *testing.T) {
	t.Parallel()
	t.Run("of pull", testProofOfPull)
	t.Run("inspect fails", testProofInspectFails)
	t.Run("old image", testProofOldImage)
	t.Run("other digest", testProofOtherDigest)
}

func testProofOfPull(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	digest := enginetest.Digest(image)
	name, _, _ := strings.Cut(good, ":")
	elsewhere := fmt.Sprintf("sha256:%064x", 99)
	// ends plays a stream that ends well, with the image there if its platform is given.
	ends := func(platform, announced string) enginetest.Script {
		return func(p *enginetest.Pull) {
			p.Line(`{"status":"Pulling from good","id":"v1"}`)
			if announced != "" {
				p.Line(`{"status":"Digest: ` + announced + `"}`)
			}
			if i := image; platform != "" {
				i.Platform = platform
				p.Tag(i)
			}
		}
	}
	containerd := image
	containerd.ID, containerd.RepoDigests = digest, nil
	nameless := image
	nameless.RepoTags, nameless.RepoDigests = nil, nil
	for _, c := range []struct {
		name, image, platform string
		script                enginetest.Script
		kind                  puller.ErrorKind // "": it is proven
	}{
		{"nothing is there", good, "", ends("", ""), puller.ErrTruncated},
		{"nothing is there in spite of a digest", good, "", ends("", digest), puller.ErrTruncated},
		{"it has lost its names since it was found", good, "", func(p *enginetest.Pull) {
			ends("", digest)(p)
			p.Tag(nameless)
		}, puller.ErrTruncated},
		{"the stream is empty", good, "", func(*enginetest.Pull) {}, puller.ErrTruncated},
		{"another digest was announced", good, "", ends("linux/amd64", elsewhere), puller.ErrCorrupt},
		{"another digest was asked for", name + "@" + elsewhere, "", ends("linux/amd64", elsewhere), puller.ErrCorrupt},
		{"another digest was asked for than announced", name + "@" + elsewhere, "", ends("linux/amd64", digest), puller.ErrCorrupt},
		{"the platform is another", good, "linux/arm64", ends("linux/amd64", digest), puller.ErrPlatformMismatch},
		{"the variant is another", good, "linux/arm/v6", ends("linux/arm/v7", digest), puller.ErrPlatformMismatch},
		{"the architecture is unknown", good, "linux/arm64", ends("linux/", digest), puller.ErrPlatformMismatch},
		{"20.10 says success for the wrong platform", good, "linux/arm64",
			enginetest.Replay(transcripts.Load("engine-20.10/wrong-platform"), &image), puller.ErrPlatformMismatch},
		{"of Podman's words, an engine that is none is not believed", good, "",
			enginetest.Replay(transcripts.Load("engine-podman/fresh"), &image), puller.ErrTruncated},
		{"the digest is announced", good, "", ends("linux/amd64", digest), ""},
		{"the stream ends well before the end", good, "", func(p *enginetest.Pull) {
			p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aaaaaaaaaaaa"}`)
			p.Tag(image)
		}, puller.ErrTruncated},
		{"the stream ends well before it names a layer", good, "", ends("linux/amd64", ""), puller.ErrTruncated},
		{"the digest asked for is there", name + "@" + digest, "", ends("linux/amd64", digest), ""},
		{"the digest asked for is there, beside a tag", good + "@" + digest, "", ends("linux/amd64", digest), ""},
		{"a status stands for the digest", good, "", func(p *enginetest.Pull) {
			ends("linux/amd64", "")(p)
			p.Line(`{"status":"Status: Downloaded newer image for ` + good + `"}`)
		}, ""},
		{"the body ends with the connection, and is whole", good, "", func(p *enginetest.Pull) {
			p.EndWithConnection()
			ends("linux/amd64", digest)(p)
		}, ""},
		{"the digest is another repository's", good, "", func(p *enginetest.Pull) {
			i := image
			i.RepoDigests = []string{"registry.test/team/good@" + digest, "registry.test:5000/good@" + digest, "good@" + digest}
			p.Tag(i)
			p.Line(`{"status":"Digest: ` + digest + `"}`)
		}, puller.ErrTruncated},
		{"the ID is the digest, and the repository is not there", name + "@" + digest, "", func(p *enginetest.Pull) {
			i := containerd
			i.RepoDigests = []string{"registry.test/team/good@" + digest}
			p.Tag(i)
			p.Line(`{"status":"Digest: ` + digest + `"}`)
		}, puller.ErrTruncated},
		{"the platform is there", good, "linux/amd64", ends("linux/amd64", digest), ""},
		{"the platform is there, with a baseline variant", good, "linux/arm64/v8", ends("linux/arm64", digest), ""},
		{"the platform is there, with a variant nobody asked for", good, "linux/arm", ends("linux/arm/v7", digest), ""},
		{"the ID is the digest, as in the containerd store", good, "", func(p *enginetest.Pull) {
			ends("", digest)(p)
			p.Tag(containerd)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				d.engine.Script(name+"@"+digest, c.script)
				d.engine.Script(name+"@"+elsewhere, c.script)
				d.engine.Script(good, c.script)
				j := d.submit(puller.PullRequest{Image: c.image, Platform: c.platform})
				if c.kind != "" {
					d.failed(j, c.kind)
					return
				}
				v := d.succeeded(j, puller.SourcePulled)
				if v.Result.Digest != digest || v.Image != c.image {
					d.Errorf("the digest is %q of %s", v.Result.Digest, v.Image)
				}
			})
		})
	}
}

func testProofInspectFails(t *testing.T) {
	for _, c := range []struct {
		name string
		look func(d *daemon) (int, string)
		kind puller.ErrorKind
	}{
		{"error", func(*daemon) (int, string) { return http.StatusInternalServerError, "the store is broken" }, puller.ErrInternal},
		{"engine killed", func(d *daemon) (int, string) { d.engine.Kill(); return 0, "" }, puller.ErrEngineUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			withDaemonOf(t, once, nil, func(d *daemon) {
				d.serve(good)
				inspects := 0
				d.engine.OnInspect(func(string, <-chan struct{}) (int, string) {
					if inspects++; inspects == 1 {
						return 0, ""
					}
					return c.look(d)
				})
				d.failed(d.pullAlways(good), c.kind)
				d.wantPulls(1)
			})
		})
	}
}

// What was there before proves nothing of a pull that was cut, even where
// something on the way made a clean end of the cut.
func testProofOldImage(t *testing.T) {
	for _, policy := range []puller.Policy{puller.PolicyAlways, puller.PolicyNewer} {
		for name, script := range map[string]enginetest.Script{
			"at once":         func(*enginetest.Pull) {},
			"before a layer":  func(p *enginetest.Pull) { p.Line(`{"status":"Pulling from good","id":"v1"}`) },
			"inside a layer":  func(p *enginetest.Pull) { p.Line(line(layerA, "Downloading", 300, 1000)) },
			"between a layer": func(p *enginetest.Pull) { p.Line(line(layerA, "Downloading", 1000, 1000)) },
			"after a download": func(p *enginetest.Pull) {
				p.Line(line(layerA, "Downloading", 1000, 1000))
				p.Line(line(layerA, "Download complete"))
			},
			"after a layer":             func(p *enginetest.Pull) { p.Line(line(layerA, "Pull complete")) },
			"after one that was there":  func(p *enginetest.Pull) { p.Line(line(layerA, "Already exists")) },
			"in the digest":             func(p *enginetest.Pull) { p.Raw(`{"status":"Digest: sha256:0000"}` + "\n") },
			"after another's status":    func(p *enginetest.Pull) { p.Line(`{"status":"Status: Image is up to date for ` + other + `"}`) },
			"after a status of nothing": func(p *enginetest.Pull) { p.Line(`{"status":"Status: Image is up to date for "}`) },
			"after a layer of that name": func(p *enginetest.Pull) {
				p.Line(`{"status":"Status: Image is up to date for ` + good + `","id":"aaaaaaaaaaaa"}`)
			},
			// Neither a length nor chunks: the connection's end is the body's.
			"without a length": func(p *enginetest.Pull) {
				p.EndWithConnection()
				p.Line(line(layerA, "Download complete"))
			},
		} {
			t.Run(string(policy)+" "+name, func(t *testing.T) {
				withDaemonOf(t, once, nil, func(d *daemon) {
					d.engine.Tag(good, enginetest.NewImage(good, 1))
					d.engine.Script(good, script)
					d.failed(d.submit(puller.PullRequest{Image: good, Policy: policy}), puller.ErrTruncated)
				})
			})
		}
	}
}

// A digest that was asked for is not exchanged for another one, whatever the registry
// has under that.
func testProofOtherDigest(t *testing.T) {
	image := enginetest.NewImage(good, 1)
	name, _, _ := strings.Cut(good, ":")
	elsewhere := fmt.Sprintf("sha256:%064x", 99)
	o := once
	o.Registry = &fakeRegistry{manifests: map[string]puller.Manifest{
		name + "@" + elsewhere + " linux/amd64": {Digest: elsewhere, Config: image.ID, Platform: "linux/amd64"},
	}}
	withDaemonOf(t, o, nil, func(d *daemon) {
		asked := name + "@" + enginetest.Digest(image)
		d.engine.Script(asked, func(p *enginetest.Pull) {
			p.Line(`{"status":"Digest: ` + elsewhere + `"}`)
			p.Tag(image)
		})
		d.failed(d.submit(puller.PullRequest{Image: asked, Policy: puller.PolicyAlways}), puller.ErrCorrupt)
	})
}
