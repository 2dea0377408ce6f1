package registry_test

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/towline/towline/puller"
)

// What an engine calls the image of one platform is its configuration's digest or
// its manifest's. An index may know more of a platform than the configuration.
func TestAPlatformsImageIsToldByItsOwnDigests(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	old, older, armv6 := newImage(t, "windows/amd64", 1), newImage(t, "windows/amd64", 1), newImage(t, "linux/arm", 1)
	var index v1.ImageIndex = empty.Index
	for _, a := range []struct {
		image    v1.Image
		platform v1.Platform
	}{
		{old, v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.5820"}},
		{older, v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.2461"}},
		{armv6, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
	} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: a.image, Descriptor: v1.Descriptor{Platform: &a.platform}})
	}
	ref, alone := r.push("app:v1", index), r.push("app:alone", armv6)
	for _, x := range []struct {
		ref, platform, version string
		index                  interface{ Digest() (v1.Hash, error) }
		image                  v1.Image
		told                   string
	}{
		{ref, "windows/amd64", "10.0.20348.2700", index, older, "windows/amd64"},
		{ref, "windows/amd64", "10.0.17763.1", index, old, "windows/amd64"},
		{ref, "windows/amd64", "10.0.26100", index, old, "windows/amd64"}, // none is for it: the first
		{ref, "windows/amd64", "", index, old, "windows/amd64"},
		{ref, "linux/arm/v6", "", index, armv6, "linux/arm/v6"}, // though its configuration says linux/arm
		{alone, "linux/arm/v6", "", armv6, armv6, "linux/arm"},
	} {
		m, err := c.Manifest(t.Context(), puller.ManifestQuery{Image: x.ref, Platform: x.platform, OSVersion: x.version})
		if err != nil {
			t.Fatal(err)
		}
		config, err := x.image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != digestOf(t, x.index) || m.Image != digestOf(t, x.image) || m.Config != config.String() || m.Platform != x.told {
			t.Errorf("%s for %s %s is %+v", x.ref, x.platform, x.version, m)
		}
	}
}
