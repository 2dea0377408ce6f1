package jobs_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// stores are the image stores that engines have.
var stores = []struct {
	name string
	be   func(*enginetest.Engine)
}{
	{"graph driver", func(*enginetest.Engine) {}},
	{"containerd store", (*enginetest.Engine).UseContainerdStore},
}

// exits is how the program of each platform's image ends.
var exits = map[string]int{"linux/amd64": 1, "linux/arm64": 2, "linux/arm/v7": 3}

// serveIndex has the engine serve an index under the tag good and all its digests.
func (d *daemon) serveIndex() enginetest.Index {
	x := enginetest.NewIndex(good, 7, "linux/amd64", "linux/arm64", "linux/arm/v7")
	d.scriptIndex(x, enginetest.ServeIndex(x))
	for _, i := range x.Images {
		for _, key := range []string{i.ID, i.Manifest} { // what the two stores know it by
			d.engine.Program(key, enginetest.Print("", "", exits[i.Platform]))
		}
	}
	return x
}

// scriptIndex says what a pull of an index does, by its tag or any digest.
func (d *daemon) scriptIndex(x enginetest.Index, s enginetest.Script) {
	name, _, _ := strings.Cut(good, ":")
	d.engine.Script(good, s)
	d.engine.Script(name+"@"+x.Digest, s)
	for _, i := range x.Images {
		d.engine.Script(name+"@"+i.Manifest, s)
	}
}

// manifests is what a registry answers for an index's tag and digest.
func manifests(x enginetest.Index) map[string]puller.Manifest {
	name, _, _ := strings.Cut(good, ":")
	all := make(map[string]puller.Manifest)
	for _, i := range x.Images {
		m := puller.Manifest{Digest: x.Digest, Image: i.Manifest, Config: i.ID, Platform: i.Platform, DiffIDs: i.DiffIDs}
		for _, d := range i.DiffIDs {
			m.Layers = append(m.Layers, puller.Blob{Digest: d, Size: 100})
		}
		platforms := []string{i.Platform}
		if i.Platform == "linux/arm64" {
			platforms = append(platforms, "linux/arm64/v8")
		}
		for _, p := range platforms {
			all[good+" "+p] = m
			all[name+"@"+x.Digest+" "+p] = m
		}
	}
	return all
}

// A run of an index is a run of the platform's image, in whatever form it is asked for,
// whatever else of the index is there, on both kinds of store.
func TestRunImageForms(t *testing.T) {
	t.Parallel()
	name, _, _ := strings.Cut(good, ":")
	x := enginetest.NewIndex(good, 7, "linux/amd64", "linux/arm64", "linux/arm/v7")
	for _, store := range stores {
		for form, image := range map[string]func(puller.Image) string{
			"tag":                func(puller.Image) string { return good },
			"index's digest":     func(puller.Image) string { return name + "@" + x.Digest },
			"manifest's digest":  func(i puller.Image) string { return name + "@" + i.Manifest },
			"tag@index's digest": func(puller.Image) string { return good + "@" + x.Digest },
		} {
			for p, platform := range []string{"", "linux/amd64", "linux/arm64/v8", "linux/arm/v7"} {
				for b, before := range []string{"nothing", "linux/arm64"} {
					t.Run(strings.Join([]string{store.name, form, "for " + platform, "after " + before}, ", "), func(t *testing.T) {
						o := running
						o.Registry = &fakeRegistry{digest: x.Digest, manifests: manifests(x)}
						withDaemonOf(t, o, nil, func(d *daemon) {
							store.be(d.engine)
							d.serveIndex()
							if before != "nothing" {
								d.succeeded(d.submit(puller.PullRequest{Image: good, Platform: before}), puller.SourcePulled)
							}
							want := *x.For(platform)
							r := puller.RunRequest{Image: image(want), Platform: platform}
							if store.name == "graph driver" && before != "nothing" && before != want.Platform && (platform == "" || form != "tag" && form != "manifest's digest") {
								return // it keeps one platform under a name, and refuses another under a digest
							}
							// Each form has each policy, but not for each platform.
							later := []puller.Policy{puller.PolicyNever, puller.PolicyNewer, puller.PolicyAlways}[(p+b)%3]
							for _, policy := range []puller.Policy{puller.PolicyMissing, later} {
								r.Policy = policy
								v := d.wantExit(d.run(r), exits[want.Platform])
								if v.Result.Digest != x.Digest && v.Result.Digest != want.Manifest {
									d.Errorf("%s: the result is %+v", policy, v.Result)
								}
							}
							d.wantNoContainers()
						})
					})
				}
			}
		}
	}
}

// A container of another image than the one that was proven never starts.
func TestRunContainerOfOtherImage(t *testing.T) {
	t.Parallel()
	x := enginetest.NewIndex(good, 7, "linux/amd64", "linux/arm64", "linux/arm/v7")
	arm64 := x.For("linux/arm64").Manifest
	for _, store := range stores {
		for what, lie := range map[string]func(image, manifest string) (string, string){
			"another image":           func(_, m string) (string, string) { return "sha256:" + strings.Repeat("9", 64), m },
			"an image by its name":    func(_, m string) (string, string) { return good, m },
			"no image":                func(_, m string) (string, string) { return "", m },
			"another manifest":        func(i, _ string) (string, string) { return i, arm64 },
			"no manifest":             func(i, _ string) (string, string) { return i, "" },
			"the manifest for the ID": func(_, m string) (string, string) { return m, m },
		} {
			if store.name == "graph driver" && strings.Contains(what, "manifest") {
				continue // it has none
			}
			t.Run(store.name+", "+what, func(t *testing.T) {
				withDaemonOf(t, running, nil, func(d *daemon) {
					store.be(d.engine)
					d.serveIndex()
					d.engine.OnContainerAnswer(func(call string, answer any) any {
						said, ok := answer.(map[string]any)
						if call != "inspect" || !ok {
							return answer
						}
						image, manifest := said["Image"].(string), ""
						if d, ok := said["ImageManifestDescriptor"].(map[string]any); ok {
							manifest = d["digest"].(string)
						}
						image, manifest = lie(image, manifest)
						said["Image"] = image
						if delete(said, "ImageManifestDescriptor"); manifest != "" {
							said["ImageManifestDescriptor"] = map[string]any{"digest": manifest}
						}
						return said
					})
					v := d.failed(d.run(puller.RunRequest{Platform: "linux/amd64"}), puller.ErrCorrupt)
					if !strings.Contains(v.Error.Message, "image") {
						d.Errorf("the error is %s", v.Error.Message)
					}
					if n := d.engine.Counts().Created; n != 1 {
						d.Errorf("%d containers were created", n)
					}
					d.wantNoContainers()
				})
			})
		}
	}
}
