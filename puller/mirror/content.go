package mirror

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/endpoint"
)

// content is what the endpoint serves.
type content Mirror

var _ endpoint.Content = (*content)(nil)

// find returns the pull that a request of the engine is part of. ns is the registry
// that the engine asks a mirror for; "" under a temporary name.
func (c *content) find(ctx context.Context, ns, name string) (*pull, error) {
	m := (*Mirror)(c)
	m.mu.Lock()
	p := m.pulls[name]
	m.mu.Unlock()
	if p != nil {
		return p, nil
	}
	return m.public(ctx, ns, name)
}

// Manifest implements endpoint.Content.
func (c *content) Manifest(ctx context.Context, ns, name, reference string) (puller.RawManifest, error) {
	p, err := c.find(ctx, ns, name)
	if err != nil {
		return puller.RawManifest{}, err
	}
	if p.trial != nil {
		if reference != p.trial.manifest.Digest {
			return puller.RawManifest{}, errUnlisted(reference)
		}
		p.trial.asked.Store(true)
		return p.trial.manifest, nil
	}
	return p.serve(ctx, reference)
}

// serve returns a manifest of the pull. That of an image says what the engine is about
// to ask for.
func (p *pull) serve(ctx context.Context, reference string) (puller.RawManifest, error) {
	reference, err := p.lookUp(ctx, reference)
	if err != nil {
		return puller.RawManifest{}, err
	}
	d, err := p.read(ctx, reference)
	if err != nil {
		return puller.RawManifest{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(d.blobs) > 0 {
		p.order = d.blobs
	}
	return p.manifests[reference], nil
}

// lookUp returns the digest of a manifest that the pull may serve.
func (p *pull) lookUp(ctx context.Context, reference string) (string, error) {
	p.mu.Lock()
	_, known := p.manifests[reference]
	for _, d := range p.documents {
		known = known || d.lists(reference)
	}
	p.mu.Unlock()
	switch {
	case known:
		return reference, nil
	case p.name == "":
		return p.resolvePublic(ctx, reference)
	}
	return "", errUnlisted(reference)
}

// Blob implements endpoint.Content.
func (c *content) Blob(ctx context.Context, ns, name, wanted string) (endpoint.Blob, error) {
	p, err := c.find(ctx, ns, name)
	if err != nil {
		return nil, err
	}
	if p.trial != nil {
		if body, ok := p.trial.blobs[wanted]; ok {
			return memory(body), nil
		}
		return nil, errUnlisted(wanted)
	}
	b, err := p.blob(wanted)
	if err != nil {
		return nil, err
	}
	p.want(wanted)
	return &served{b, p}, nil
}

// Referrers implements endpoint.Content.
func (c *content) Referrers(ctx context.Context, ns, name, of string) (puller.RawManifest, error) {
	p, err := c.find(ctx, ns, name)
	if err != nil {
		return puller.RawManifest{}, err
	}
	if digest.Digest(of).Validate() != nil || p.repo == nil {
		return puller.RawManifest{}, errUnlisted(of)
	}
	if _, err := p.lookUp(ctx, of); err != nil {
		return puller.RawManifest{}, err
	}
	return p.repo.Referrers(ctx, of)
}

// served is a blob that the engine reads while it arrives.
type served struct {
	*blobs.Blob
	p *pull
}

func (s *served) Close() {} // the pull gives it back

// NewReader returns the bytes from an offset on. They end with an error when the
// pull's fetch has failed.
func (s *served) NewReader(ctx context.Context, from int64) io.ReadCloser {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.p.ctx, func() { cancel(context.Cause(s.p.ctx)) })
	return &servedReader{served: s, ctx: ctx, from: from, end: func() { stop(); cancel(nil) }}
}

// servedReader gives nothing before the pull's credentials have access. It counts how
// long the engine waits.
type servedReader struct {
	*served
	ctx  context.Context
	from int64
	end  func()
	in   io.ReadCloser // nil before the first Read
}

func (r *servedReader) Read(p []byte) (int, error) {
	began := time.Now()
	defer func() { r.p.mirror.metrics.waited.Add(time.Since(began).Seconds()) }()
	if r.in == nil {
		if err := r.p.awaitAccess(r.ctx, r.Blob); err != nil {
			return 0, err
		}
		r.in = r.Blob.NewReader(r.ctx, r.from)
	}
	return r.in.Read(p)
}

func (r *servedReader) Close() error {
	r.end()
	if r.in == nil {
		return nil
	}
	return r.in.Close()
}

// memory is a blob of a trial.
type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) NewReader(_ context.Context, from int64) io.ReadCloser {
	return io.NopCloser(bytes.NewReader(m[min(from, int64(len(m))):]))
}

func (m memory) Close() {}
