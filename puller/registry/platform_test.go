package registry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/towline/towline/puller"
)

// Engines name the image of one platform by the digest of its configuration or of its
// manifest. An index can have a variant that the configuration has not.
func TestManifestDigests(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
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
		want                   string
	}{
		{ref, "windows/amd64", "10.0.20348.2700", index, older, "windows/amd64"},
		{ref, "windows/amd64", "10.0.17763.1", index, old, "windows/amd64"},
		{ref, "windows/amd64", "10.0.26100", index, old, "windows/amd64"}, // no entry has this version: the first
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
		want := puller.Manifest{Digest: digestOf(t, x.index), Image: digestOf(t, x.image), Config: config.String(), Platform: x.want}
		if diff := cmp.Diff(want, m, cmpopts.IgnoreFields(m, "Layers", "DiffIDs")); diff != "" {
			t.Errorf("%s for %s %s (-want +got):\n%s", x.ref, x.platform, x.version, diff)
		}
	}
}
