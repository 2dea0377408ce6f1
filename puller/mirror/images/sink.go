package images

import (
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
)

// sink is a blob as the fetcher knows it.
type sink struct {
	*blobs.Blob
	below int
}

func (img *Image) sink(b *blobs.Blob) sink { return sink{b, img.Manifests.below(b.Digest())} }

func (s sink) Below() int { return s.below }

func (s sink) Missing() []fetch.Range {
	missing := s.Blob.Missing()
	ranges := make([]fetch.Range, len(missing))
	for i, r := range missing {
		ranges[i] = fetch.Range(r)
	}
	return ranges
}

// part is a range of a blob as the fetcher knows it.
type part struct {
	sink
	of blobs.Range
}

func (s part) Missing() (missing []fetch.Range) {
	for _, r := range s.sink.Missing() {
		if r.From, r.To = max(r.From, s.of.From), min(r.To, s.of.To); r.From < r.To {
			missing = append(missing, r)
		}
	}
	return missing
}

func (s part) Wanted() int64 {
	if at := s.sink.Wanted(); s.of.From <= at && at < s.of.To {
		return at
	}
	return -1
}

// WriteAt takes bytes also where the digest of the blob is wrong then: other parts may be.
func (s part) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.sink.WriteAt(p, off)
	if puller.KindOf(err) == puller.ErrCorrupt {
		return len(p), nil
	}
	return n, err
}
