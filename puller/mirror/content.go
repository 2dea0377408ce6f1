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
	"github.com/towline/towline/puller/mirror/way"
)

// content is what the endpoint serves.
type content Mirror

var _ endpoint.Content = (*content)(nil)

// find calls use with the pulls that a request of the engine may be part of, until one
// has what is asked for. ns is the registry that the engine asks a mirror for; "" under
// a temporary name.
func (c *content) find(ctx context.Context, ns, name string, use func(*pull) error) error {
	m := (*Mirror)(c)
	m.mu.Lock()
	p := m.pulls[name]
	m.mu.Unlock()
	if p != nil {
		return use(p)
	}
	return m.public(ctx, ns, name, use)
}

// Manifest implements endpoint.Content.
func (c *content) Manifest(ctx context.Context, ns, name, reference string) (raw puller.RawManifest, err error) {
	err = c.find(ctx, ns, name, func(p *pull) (err error) {
		if p.trial == nil {
			raw, err = p.serve(ctx, reference)
			return err
		}
		var ok bool
		if raw, ok = p.trial.Manifest(reference); !ok {
			return errUnlisted(reference)
		}
		return nil
	})
	return raw, err
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
func (c *content) Blob(ctx context.Context, ns, name, wanted string) (found endpoint.Blob, err error) {
	err = c.find(ctx, ns, name, func(p *pull) error {
		if p.trial != nil {
			body, ok := p.trial.Blob(wanted)
			if !ok {
				return errUnlisted(wanted)
			}
			found = memory(body)
			return nil
		}
		b, err := p.blob(wanted)
		if err != nil {
			return err
		}
		p.want(wanted)
		found = &served{b, p}
		return nil
	})
	return found, err
}

// Referrers implements endpoint.Content.
func (c *content) Referrers(ctx context.Context, ns, name, of string) (raw puller.RawManifest, err error) {
	err = c.find(ctx, ns, name, func(p *pull) (err error) {
		if digest.Digest(of).Validate() != nil || p.repo == nil {
			return errUnlisted(of)
		}
		if _, err := p.lookUp(ctx, of); err != nil {
			return err
		}
		raw, err = p.repo.Referrers(ctx, of)
		return err
	})
	return raw, err
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

// serveTrial serves a trial's image under a temporary name until end is called.
func (m *Mirror) serveTrial(name string, t *way.Trial) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pulls[name] = &pull{mirror: m, trial: t}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.pulls, name)
	}
}

// memory is a blob of a trial.
type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) NewReader(_ context.Context, from int64) io.ReadCloser {
	return io.NopCloser(bytes.NewReader(m[min(from, int64(len(m))):]))
}

func (m memory) Close() {}
