package puller

import "testing"

// images of layers that are named by a letter each: "a" has the digest "a" and
// the contents "A", and as many bytes as its place in the alphabet.
func lettered(layers string) (m Manifest) {
	for _, l := range layers {
		m.Layers = append(m.Layers, Blob{Digest: string(l), Size: int64(l - 'a' + 1)})
		m.DiffIDs = append(m.DiffIDs, string(l-'a'+'A'))
	}
	return m
}

func TestTheTallyCountsEveryLayerThatIsFetchedOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		blobs  bool
		stock  []string // contents
		images []string
		want   []Weight
	}{
		{"nothing in common", false, nil, []string{"ab", "cd"}, []Weight{{3, 3, 2, 0, 0}, {7, 7, 2, 0, 0}}},
		{"a common base", false, nil, []string{"ab", "abc", "ad"}, []Weight{{3, 3, 2, 0, 0}, {6, 3, 3, 0, 2}, {5, 4, 2, 0, 1}}},
		{"twice the same", false, nil, []string{"ab", "ab"}, []Weight{{3, 3, 2, 0, 0}, {3, 0, 2, 0, 2}}},
		{"a base on the engine", false, []string{"AX"}, []string{"ab", "abc"}, []Weight{{3, 2, 2, 1, 0}, {6, 3, 3, 1, 1}}},
		{"all of it on the engine", false, []string{"ABC"}, []string{"ab"}, []Weight{{3, 0, 2, 2, 0}}},
		{"on the engine, but on another base", false, []string{"XB", "B"}, []string{"ab"}, []Weight{{3, 3, 2, 0, 0}}},
		{"on another base, where blobs are thrown away", false, nil, []string{"ab", "cb"}, []Weight{{3, 3, 2, 0, 0}, {5, 5, 2, 0, 0}}},
		{"on another base, where blobs are kept", true, nil, []string{"ab", "cb"}, []Weight{{3, 3, 2, 0, 0}, {5, 3, 2, 0, 1}}},
		{"one layer several times", false, nil, []string{"aba", "a"}, []Weight{{4, 3, 3, 0, 1}, {1, 0, 1, 0, 1}}},
		{"no layers", false, []string{"A"}, []string{""}, []Weight{{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stock []Image
			for _, contents := range c.stock {
				i := Image{}
				for _, l := range contents {
					i.DiffIDs = append(i.DiffIDs, string(l))
				}
				stock = append(stock, i)
			}
			l := newTally(stock, c.blobs)
			var size, fetch int64
			for i, image := range c.images {
				got := l.enter(lettered(image))
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
func TestChainIDIsTheSpecifications(t *testing.T) {
	if got := chainID("", "sha256:a"); got != "sha256:a" {
		t.Errorf("one layer's is %s", got)
	}
	const want = "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8"
	if got := chainID("sha256:a", "sha256:b"); got != want {
		t.Errorf("two layers' is %s", got)
	}
}
