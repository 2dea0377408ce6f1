package prewarm

import (
	"testing"

	"github.com/towline/towline/puller"
)

// images of layers that are named by a letter each: "a" has the digest "a" and
// the contents "A", and as many bytes as its place in the alphabet.
func lettered(layers string) (m puller.Manifest) {
	for _, l := range layers {
		m.Layers = append(m.Layers, puller.Blob{Digest: string(l), Size: int64(l - 'a' + 1)})
		m.DiffIDs = append(m.DiffIDs, string(l-'a'+'A'))
	}
	return m
}

func TestLayerSum(t *testing.T) {
	for _, c := range []struct {
		name   string
		blobs  bool
		stored []string // contents
		images []string
		want   []puller.Weight
	}{
		{"nothing in common", false, nil, []string{"ab", "cd"}, []puller.Weight{weight(3, 3, 2, 0, 0), weight(7, 7, 2, 0, 0)}},
		{"a common base", false, nil, []string{"ab", "abc", "ad"}, []puller.Weight{weight(3, 3, 2, 0, 0), weight(6, 3, 3, 0, 2), weight(5, 4, 2, 0, 1)}},
		{"twice the same", false, nil, []string{"ab", "ab"}, []puller.Weight{weight(3, 3, 2, 0, 0), weight(3, 0, 2, 0, 2)}},
		{"a base on the engine", false, []string{"AX"}, []string{"ab", "abc"}, []puller.Weight{weight(3, 2, 2, 1, 0), weight(6, 3, 3, 1, 1)}},
		{"all of it on the engine", false, []string{"ABC"}, []string{"ab"}, []puller.Weight{weight(3, 0, 2, 2, 0)}},
		{"on the engine, but on another base", false, []string{"XB", "B"}, []string{"ab"}, []puller.Weight{weight(3, 3, 2, 0, 0)}},
		{"on another base, where blobs are thrown away", false, nil, []string{"ab", "cb"}, []puller.Weight{weight(3, 3, 2, 0, 0), weight(5, 5, 2, 0, 0)}},
		{"on another base, where blobs are kept", true, nil, []string{"ab", "cb"}, []puller.Weight{weight(3, 3, 2, 0, 0), weight(5, 3, 2, 0, 1)}},
		{"one layer several times", false, nil, []string{"aba", "a"}, []puller.Weight{weight(4, 3, 3, 0, 1), weight(1, 0, 1, 0, 1)}},
		{"no layers", false, []string{"A"}, []string{""}, []puller.Weight{{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stock []puller.Image
			for _, contents := range c.stored {
				i := puller.Image{}
				for _, l := range contents {
					i.DiffIDs = append(i.DiffIDs, string(l))
				}
				stock = append(stock, i)
			}
			l := newLayerSum(stock, c.blobs)
			var size, fetch int64
			for i, image := range c.images {
				got := l.add(lettered(image))
				if got != c.want[i] {
					t.Errorf("%s weighs %+v, not %+v", image, got, c.want[i])
				}
				size, fetch = size+got.Size, fetch+got.Fetch
			}
			if l.fetch != fetch || l.fetch+l.shared+l.present != size {
				t.Errorf("%d fetched, %d shared and %d present are not %d in all", l.fetch, l.shared, l.present, size)
			}
		})
	}
}

// The example of the OCI image specification's formula, computed by hand:
// printf 'sha256:a sha256:b' | sha256sum.
func TestChainID(t *testing.T) {
	if got := chainID("", "sha256:a"); got != "sha256:a" {
		t.Errorf("one layer's is %s", got)
	}
	const want = "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8"
	if got := chainID("sha256:a", "sha256:b"); got != want {
		t.Errorf("two layers' is %s", got)
	}
}

func weight(size, fetch int64, layers, present, shared int) puller.Weight {
	return puller.Weight{Size: size, Fetch: fetch, Layers: layers, LayersPresent: present, LayersShared: shared}
}
