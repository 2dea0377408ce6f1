package images

import (
	"context"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/sharing"
)

var (
	_ sharing.Source = source{}
	_ sharing.Held   = (*Held)(nil)
)

// fetchShared fetches blobs with the hosts that share the image.
func (img *Image) fetchShared(mine []*blobs.Blob) error {
	all := make([]sharing.Blob, len(mine))
	for i, b := range mine {
		all[i] = sharing.Blob{Blob: b, Manifest: img.Manifests.listing(b.Digest())}
	}
	return img.images.o.Peers.Fetch(img.ctx, *img.shared, all, source{img}, sharing.Progress{
		Taken: func(n int) {
			img.mu.Lock()
			defer img.mu.Unlock()
			img.taken += int64(n)
		},
		Notice: func(message string) {
			img.mu.Lock()
			defer img.mu.Unlock()
			img.notices = append(img.notices, message)
		},
	})
}

// source is this host's own access to the registry of an image.
type source struct{ image *Image }

// Manifest implements sharing.Source.
func (s source) Manifest(ctx context.Context, digest string) (puller.RawManifest, error) {
	return s.image.repository.Manifest(ctx, digest)
}

// Fetch implements sharing.Source.
func (s source) Fetch(ctx context.Context, b *blobs.Blob, r blobs.Range) error {
	work := s.image.toFetch([]fetch.Sink{part{s.image.sink(b), r}})
	work.Patient = true
	return s.image.images.o.Fetcher.Fetch(ctx, work)
}

// Held is an image that this host has for others.
type Held struct{ source }

// Held returns a shared image as other hosts use it.
func (img *Image) Held() *Held { return &Held{source{img}} }

// Context is that of the image.
func (h *Held) Context() context.Context { return h.image.ctx }

// Close closes the image, and gives up what it was to fetch for others.
func (h *Held) Close() {
	h.image.images.flights.endUnused(h.image.access.identity)
	h.image.Close()
}

// Read implements sharing.Held.
func (h *Held) Read(ctx context.Context, digest string) (puller.RawManifest, error) {
	at, all := h.image.shared.Digest, h.image.Manifests
	d, err := all.read(ctx, at)
	if err == nil && digest != at {
		if !d.lists(digest) {
			return puller.RawManifest{}, Unlisted(digest)
		}
		_, err = all.read(ctx, digest)
	}
	if err != nil {
		return puller.RawManifest{}, err
	}
	return all.get(digest), nil
}

// Use implements sharing.Held.
func (h *Held) Use(ctx context.Context, manifest, digest string) (*blobs.Blob, func(), error) {
	img := h.image
	if _, err := h.Read(ctx, manifest); err != nil {
		return nil, nil, err
	}
	if d, _ := img.Manifests.known(manifest); !d.has(digest) {
		return nil, nil, Unlisted(digest)
	}
	b, err := img.blob(digest)
	if err != nil {
		return nil, nil, err
	}
	img.using.Lock()
	defer img.using.Unlock()
	one := []*blobs.Blob{b}
	if err := verify(img.ctx, one); err != nil {
		return nil, nil, err
	}
	if err := img.access.prove(img.ctx, one); err != nil {
		return nil, nil, puller.Errorf(puller.ErrDenied, "%s is here, but the registry does not show it to this host: %w", digest, err)
	}
	mine, _ := img.access.claim(one, true)
	switch {
	case len(mine) > 0:
		return b, func() { img.images.flights.end(mine, true) }, nil
	case b.Whole() && img.access.has(one):
		return b, func() {}, nil
	}
	return nil, nil, puller.Errorf(puller.ErrOverloaded, "another pull fetches %s now", digest)
}
