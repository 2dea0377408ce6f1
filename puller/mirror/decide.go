package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// resolveLimit is how long the registry may take to tell what an image is made of.
const resolveLimit = 30 * time.Second

// Accelerate implements puller.Accelerator.
func (m *Mirror) Accelerate(ctx context.Context, r puller.Pull) puller.Acceleration {
	p := &pull{mirror: m, request: r}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	a := &acceleration{pull: p}
	way, reason := m.decide(ctx, p)
	if way == puller.WayAlias {
		// The engine gives its own reason where it can't take it.
		if err := a.alias(); err != nil {
			way, reason = puller.WayNone, "a temporary name can't be noted: "+err.Error()
		}
	}
	a.how = puller.Accelerated{Way: way, Reason: reason}
	if way == puller.WayMirror {
		m.mu.Lock()
		m.named[p.request.Image] = p
		m.mu.Unlock()
	}
	return a
}

// decide chooses the way of a pull, and prepares it.
func (m *Mirror) decide(ctx context.Context, p *pull) (puller.Way, string) {
	select {
	case <-m.started:
	case <-ctx.Done():
	}
	if _, fault := m.endpoint(); fault != "" {
		return puller.WayNone, fault
	}
	registry := names.RegistryOf(p.request.Image)
	m.share(ctx, p)
	if m.o.Mode == "auto" && p.shared == nil {
		if onLoopback(registry) {
			return puller.WayNone, "the registry is on this machine"
		}
		if reason := m.links.reason(registry); reason != "" {
			return puller.WayNone, reason
		}
	}
	engine, way, reason := m.ways.Find(ctx)
	if way == puller.WayNone {
		return way, reason
	}
	private := ""
	switch {
	case p.request.Credentials != (puller.Credentials{}):
		private = "this pull has credentials"
	case way == puller.WayMirror && p.shared != nil && !p.isPublic(ctx):
		private = "the registry does not show this one to everybody"
	}
	if way == puller.WayMirror && private != "" {
		// The mirror way has no secret: each of the engine's callers could have the image.
		reason = "a mirror serves public images only, and " + private
		if m.o.Mode == string(puller.WayMirror) {
			return puller.WayNone, reason
		}
		way = puller.WayAlias
	}
	p.joined = joins(engine)
	platform := p.request.Platform
	if platform == "" {
		platform = engine.Platform
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resolveLimit, errors.New("it took longer than "+resolveLimit.String()))
	defer cancel()
	size, err := p.resolve(ctx, platform)
	switch {
	case err != nil:
		return puller.WayNone, fmt.Sprintf("the registry could not be read: %v", puller.Inner(err))
	case p.shared != nil:
		return way, reason + "; other hosts of the fleet share the image"
	case size < m.o.MinSize:
		return puller.WayNone, fmt.Sprintf("the image has %d bytes, less than mirror.min_size", size)
	}
	return way, reason
}

// resolve asks the registry what the image is made of, and returns its size in bytes.
func (p *pull) resolve(ctx context.Context, platform string) (size int64, err error) {
	if err := p.open(ctx); err != nil {
		return 0, err
	}
	at := names.ParseName(p.request.Image)
	reference := at.Tag
	if at.Digest != "" {
		reference = at.Digest
	}
	d, err := p.read(ctx, reference)
	if err != nil {
		return 0, err
	}
	if len(d.children) > 0 {
		child := d.choose(platform)
		if child == "" {
			return 0, fmt.Errorf("its index has no image for %s", platform)
		}
		if d, err = p.read(ctx, child); err != nil {
			return 0, err
		}
	}
	return d.size(), nil
}
