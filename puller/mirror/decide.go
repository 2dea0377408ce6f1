package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/mirror/hosts"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/names"
)

// resolveLimit is how long the registry may take to tell what an image is made of.
const resolveLimit = 30 * time.Second

// Accelerate implements engines.Accelerator.
func (m *Mirror) Accelerate(ctx context.Context, r puller.Pull) engines.Acceleration {
	a := &acceleration{mirror: m, request: r}
	way, reason := a.decide(ctx)
	if way == puller.WayAlias {
		// The engine gives its own reason where it can't take it.
		if err := a.alias(); err != nil {
			way, reason = puller.WayNone, "a temporary name can't be noted: "+err.Error()
		}
	}
	a.how = puller.Accelerated{Way: way, Reason: reason}
	if way == puller.WayMirror {
		m.mu.Lock()
		m.named[r.Image] = a
		m.mu.Unlock()
	}
	return a
}

// decide chooses the way of a pull, and prepares it.
func (a *acceleration) decide(ctx context.Context) (puller.Way, string) {
	m, r := a.mirror, a.request
	select {
	case <-m.started:
	case <-ctx.Done():
	}
	if _, fault := m.endpoint(); fault != "" {
		return puller.WayNone, fault
	}
	registry := names.RegistryOf(r.Image)
	shared := m.sharedImage(ctx, r)
	if m.o.Mode == "auto" && shared == nil {
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
	if way == puller.WayMirror {
		if why := m.unmirrored(ctx, r, shared); why != "" {
			reason = why
			if m.o.Mode == string(puller.WayMirror) {
				return puller.WayNone, reason
			}
			way = puller.WayAlias
		}
	}
	a.joined = way == puller.WayAlias && joins(engine)
	platform := r.Platform
	if platform == "" {
		platform = engine.Platform
	}
	life := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, resolveLimit, errors.New("it took longer than "+resolveLimit.String()))
	defer cancel()
	size, err := a.resolve(ctx, life, platform, shared)
	switch {
	case err != nil:
		return puller.WayNone, fmt.Sprintf("the registry could not be read: %v", puller.Inner(err))
	case shared != nil:
		return way, reason + "; other hosts of the fleet share the image"
	case size < m.o.MinSize:
		return puller.WayNone, fmt.Sprintf("the image has %d bytes, less than mirror.min_size", size)
	}
	return way, reason
}

// unmirrored returns why an engine that knows Towline as a mirror can't have an image from it, or
// must not, and "" where it may.
func (m *Mirror) unmirrored(ctx context.Context, r puller.Pull, shared *sharing.Image) string {
	// The mirror way has no secret: each of the engine's callers could have the image.
	const public = "a mirror serves public images only, and "
	host, _, _ := strings.Cut(r.Image, "/")
	switch {
	case r.Credentials != (puller.Credentials{}):
		return public + "this pull has credentials"
	case shared != nil && !m.isPublic(ctx, r.Image):
		return public + "the registry does not show this one to everybody"
	case hosts.HasOwn(m.o.HostsDir, host):
		return "the engine asks no mirror for images of " + host + ", which has a directory of its own in mirror.hosts_dir"
	}
	return ""
}

// resolve opens the image, and returns its size in bytes.
func (a *acceleration) resolve(ctx, life context.Context, platform string, shared *sharing.Image) (size int64, err error) {
	if a.image, err = a.mirror.images.Open(ctx, life, a.request, shared); err != nil {
		return 0, err
	}
	return a.image.Manifests.Resolve(ctx, platform)
}
