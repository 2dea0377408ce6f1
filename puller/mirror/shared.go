package mirror

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/names"
)

const (
	// sharedFor is how long an image is held for other hosts after the last of them asked.
	sharedFor = 10 * time.Minute
	// maxShared is how many images are held at a time.
	maxShared = 200
)

var (
	_ sharing.Host   = (*Mirror)(nil)
	_ sharing.Held   = (*pull)(nil)
	_ sharing.Source = (*pull)(nil)
)

// share makes a pull one of an image that other hosts share, if they do. What they share is
// this host's own: a caller's credentials may have access to less, or to more.
func (m *Mirror) share(ctx context.Context, p *pull) {
	at := names.ParseName(p.request.Image)
	i := sharing.Image{Repository: at.Repository, Digest: at.Digest}
	if m.o.Peers == nil || i.Digest == "" || !m.o.Peers.Shares(i) {
		return
	}
	if p.request.Credentials != (puller.Credentials{}) {
		own, err := m.o.Registry.Credentials(ctx, p.request.Image)
		if err != nil || own != p.request.Credentials {
			return
		}
	}
	p.shared = &i
}

// sharedIdentity is who has access to what comes from other hosts: this host itself, to
// this repository. So what came so is given to a caller, or to the hosts that share an
// image of another repository, only after that registry has shown a part of it.
func (p *pull) sharedIdentity() (id [sha256.Size]byte) {
	sum := hmac.New(sha256.New, p.mirror.key)
	sum.Write([]byte("shared\x00" + p.shared.Repository))
	sum.Sum(id[:0])
	return id
}

// isPublic reports whether the registry shows an image to who has no credentials.
func (p *pull) isPublic(ctx context.Context) bool {
	own, err := p.mirror.o.Registry.Credentials(ctx, p.request.Image)
	if err != nil || own != (puller.Credentials{}) {
		return false
	}
	_, err = p.mirror.o.Registry.Head(ctx, p.request.Image, puller.Credentials{})
	return err == nil
}

// fetchManifest returns a manifest from the registry, or from a host that shares the image.
func (p *pull) fetchManifest(ctx context.Context, reference string) (puller.RawManifest, error) {
	if p.shared != nil && digest.Digest(reference).Validate() == nil {
		return p.mirror.o.Peers.Manifest(ctx, *p.shared, reference, p)
	}
	return p.repo.Manifest(ctx, reference)
}

// fetchShared fetches blobs with the hosts that share the image.
func (p *pull) fetchShared(mine []*blobs.Blob) error {
	all := make([]sharing.Blob, len(mine))
	p.mu.Lock()
	for i, b := range mine {
		all[i] = sharing.Blob{Blob: b, Manifest: p.listing(b.Digest())}
	}
	p.mu.Unlock()
	return p.mirror.o.Peers.Fetch(p.ctx, *p.shared, all, p, sharing.Progress{
		Taken: func(n int) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.taken += int64(n)
		},
		Notice: func(message string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.notices = append(p.notices, message)
		},
	})
}

// listing returns the digest of a manifest that lists a blob. The lock is held.
func (p *pull) listing(blob string) string {
	for manifest, d := range p.documents {
		for _, b := range d.blobs {
			if b.Digest == blob {
				return manifest
			}
		}
	}
	return ""
}

// Manifest implements sharing.Source.
func (p *pull) Manifest(ctx context.Context, digest string) (puller.RawManifest, error) {
	return p.repo.Manifest(ctx, digest)
}

// Fetch implements sharing.Source.
func (p *pull) Fetch(ctx context.Context, b *blobs.Blob, r blobs.Range) error {
	return p.mirror.fetcher.Fetch(ctx, fetch.Work{
		Repository: p.repo, Registry: p.registry, Sinks: []fetch.Sink{part{sink{b, p.below(b.Digest())}, r}}, Patient: true, Progress: p.count, CoolDown: p.request.Busy,
	})
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

// Open implements sharing.Host.
func (m *Mirror) Open(ctx context.Context, i sharing.Image) (sharing.Held, error) {
	m.mu.Lock()
	p := m.shared[i]
	m.mu.Unlock()
	if p != nil {
		p.idle.Reset(sharedFor)
		return p, nil
	}
	image := i.Repository + "@" + i.Digest
	own, err := m.o.Registry.Credentials(ctx, image)
	if err != nil {
		return nil, err
	}
	p = &pull{mirror: m, request: puller.Pull{Image: image, Credentials: own}, shared: &i}
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.address == "" {
		return nil, puller.Errorf(puller.ErrNotFound, "the accelerator is off")
	}
	if other := m.shared[i]; other != nil {
		return other, nil
	}
	if len(m.shared) >= maxShared {
		return nil, puller.Errorf(puller.ErrOverloaded, "%d images are held for other hosts already", maxShared)
	}
	p.ctx, p.cancel = context.WithCancelCause(m.ctx)
	p.idle = time.AfterFunc(sharedFor, func() { m.closeShared(p) })
	m.shared[i] = p
	return p, nil
}

func (m *Mirror) closeShared(p *pull) {
	m.mu.Lock()
	if m.shared[*p.shared] == p {
		delete(m.shared, *p.shared)
	}
	for _, f := range m.flights { // those that nobody goes on with
		if f.shared && f.users == 0 && f.identity == p.identity {
			m.endFlight(f)
		}
	}
	m.mu.Unlock()
	p.cancel(context.Canceled)
	p.release()
}

// Read implements sharing.Held.
func (p *pull) Read(ctx context.Context, digest string) (puller.RawManifest, error) {
	at := p.shared.Digest
	d, err := p.read(ctx, at)
	if err == nil && digest != at {
		if !d.lists(digest) {
			return puller.RawManifest{}, errUnlisted(digest)
		}
		_, err = p.read(ctx, digest)
	}
	if err != nil {
		return puller.RawManifest{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.manifests[digest], nil
}

// Use implements sharing.Held.
func (p *pull) Use(ctx context.Context, manifest, digest string) (*blobs.Blob, func(), error) {
	if _, err := p.Read(ctx, manifest); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	listed := false
	for _, b := range p.documents[manifest].blobs {
		listed = listed || b.Digest == digest
	}
	p.mu.Unlock()
	if !listed {
		return nil, nil, errUnlisted(digest)
	}
	b, err := p.blob(digest)
	if err != nil {
		return nil, nil, err
	}
	p.using.Lock()
	defer p.using.Unlock()
	one := []*blobs.Blob{b}
	if err := p.verify(one); err != nil {
		return nil, nil, err
	}
	if err := p.prove(one); err != nil {
		return nil, nil, puller.Errorf(puller.ErrDenied, "%s is here, but the registry does not show it to this host: %w", digest, err)
	}
	mine, _ := p.claim(one)
	switch {
	case len(mine) > 0:
		return b, func() { p.endFlights(mine, true) }, nil
	case b.Whole() && b.Granted(p.identity):
		return b, func() {}, nil
	}
	return nil, nil, puller.Errorf(puller.ErrOverloaded, "another pull fetches %s now", digest)
}
