package mirror

import (
	"bytes"
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/endpoint"
	"github.com/towline/towline/puller/mirror/images"
	"github.com/towline/towline/puller/mirror/way"
)

// content is what the endpoint serves.
type content Mirror

var _ endpoint.Content = (*content)(nil)

// offer is an image that a request of the engine may be for.
type offer interface {
	content() *images.Image
	// lookUp returns the digest of the manifest that a tag or a digest stands for, if it
	// may be served.
	lookUp(ctx context.Context, reference string) (digest string, err error)
	// use notes that something of it is sent, until end is called.
	use() (end func())
}

// find calls use with the images that a request of the engine may be for, until one has
// what is asked for. ns is the registry that the engine asks a mirror for; "" under a
// temporary name.
func (c *content) find(ctx context.Context, ns, name string, use func(offer) error) error {
	m := (*Mirror)(c)
	m.mu.Lock()
	a := m.pulls[name]
	m.mu.Unlock()
	if a != nil {
		return use(a)
	}
	return m.ask(ctx, ns, name, use)
}

// trial returns the trial of a temporary name, nil for another name.
func (c *content) trial(name string) *way.Trial {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trials[name]
}

// Manifest implements endpoint.Content. That of an image says what the engine is about to
// ask for.
func (c *content) Manifest(ctx context.Context, ns, name, reference string) (raw puller.RawManifest, err error) {
	if t := c.trial(name); t != nil {
		raw, ok := t.Manifest(reference)
		if !ok {
			err = images.Unlisted(reference)
		}
		return raw, err
	}
	err = c.find(ctx, ns, name, func(o offer) error {
		digest, err := o.lookUp(ctx, reference)
		if err == nil {
			defer o.use()()
			raw, err = o.content().Manifests.Serve(ctx, digest)
		}
		return err
	})
	return raw, err
}

// Blob implements endpoint.Content.
func (c *content) Blob(ctx context.Context, ns, name, wanted string) (found endpoint.Blob, err error) {
	if t := c.trial(name); t != nil {
		body, ok := t.Blob(wanted)
		if !ok {
			return nil, images.Unlisted(wanted)
		}
		return memory(body), nil
	}
	err = c.find(ctx, ns, name, func(o offer) error {
		b, err := o.content().Blob(wanted)
		if err == nil {
			found = &sent{b, o.use()}
		}
		return err
	})
	return found, err
}

// sent is a blob of an image that is being sent.
type sent struct {
	*images.Blob
	end func()
}

// Close implements endpoint.Blob.
func (s *sent) Close() { s.end() }

// Referrers implements endpoint.Content.
func (c *content) Referrers(ctx context.Context, ns, name, of string) (raw puller.RawManifest, err error) {
	if c.trial(name) != nil || digest.Digest(of).Validate() != nil {
		return raw, images.Unlisted(of)
	}
	err = c.find(ctx, ns, name, func(o offer) error {
		if _, err := o.lookUp(ctx, of); err != nil {
			return err
		}
		raw, err = o.content().Manifests.Referrers(ctx, of)
		return err
	})
	return raw, err
}

// serveTrial serves a trial's image under a temporary name until end is called.
func (m *Mirror) serveTrial(name string, t *way.Trial) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trials[name] = t
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.trials, name)
	}
}

// memory is a blob of a trial.
type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) NewReader(_ context.Context, from int64) io.ReadCloser {
	return io.NopCloser(bytes.NewReader(m[min(from, int64(len(m))):]))
}

func (m memory) Close() {}
