package registry

import (
	"fmt"
	"testing"
)

func TestTheShelfDropsWhatWasNotAskedForLongest(t *testing.T) {
	s := newShelf(3)
	for i := range 3 {
		s.put(fmt.Sprint(i), document{})
	}
	s.get("0")
	s.put("2", document{}) // once more
	s.put("3", document{})
	for name, want := range map[string]bool{"0": true, "1": false, "2": true, "3": true} {
		if _, got := s.get(name); got != want {
			t.Errorf("%s is there: %t", name, got)
		}
	}
	if len(s.books) != 3 || s.order.Len() != 3 {
		t.Errorf("there are %d, in a row of %d", len(s.books), s.order.Len())
	}
}

// Whatever a registry sends, what is taken keeps the promises of
// puller.Manifest.
func FuzzReadManifest(f *testing.F) {
	const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	f.Add([]byte(`{"config":{"digest":"`+digest+`"},"layers":[{"digest":"`+digest+`","size":5}]}`), []byte(`{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["`+digest+`"]}}`))
	f.Add([]byte(`{"manifests":[{"digest":"`+digest+`","platform":{"os":"linux","architecture":"arm64"}}]}`), []byte(`{}`))
	f.Add([]byte(`{"schemaVersion":1}`), []byte(``))
	f.Fuzz(func(t *testing.T, manifest, content []byte) {
		d, config, err := readManifest(manifest)
		if err != nil {
			return
		}
		if config == nil {
			for _, platform := range []string{"linux/amd64", "linux/arm", ""} {
				if o, err := d.choose(platform, "10.0.1"); err == nil && o.digest.Hex == "" {
					t.Error("it chose nothing")
				}
			}
			return
		}
		if d.readConfig(content) != nil {
			return
		}
		if len(d.image.Layers) != len(d.image.DiffIDs) {
			t.Errorf("%d layers, %d diff IDs", len(d.image.Layers), len(d.image.DiffIDs))
		}
		sum := int64(0)
		for _, l := range d.image.Layers {
			if sum += l.Size; l.Size < 0 || sum > maxBytes || l.Digest == "" {
				t.Errorf("a layer is %+v, the sum %d", l, sum)
			}
		}
	})
}
