package mirror

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/images"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/names"
)

const (
	// sharedFor is how long an image is held for other hosts after the last of them asked.
	sharedFor = 10 * time.Minute
	// maxShared is how many images are held at a time.
	maxShared = 200
)

var _ sharing.Host = (*Mirror)(nil)

// errOff is why nothing is held.
var errOff = puller.Errorf(puller.ErrNotFound, "the accelerator is off")

// sharedImage returns the image of a pull as other hosts share it, nil where they don't.
// What they share is this host's own: a caller's credentials may have access to less, or
// to more.
func (m *Mirror) sharedImage(ctx context.Context, r puller.Pull) *sharing.Image {
	at := names.ParseName(r.Image)
	i := sharing.Image{Repository: at.Repository, Digest: at.Digest}
	if m.o.Peers == nil || i.Digest == "" || !m.o.Peers.Shares(i) {
		return nil
	}
	if r.Credentials != (puller.Credentials{}) {
		own, err := m.o.Registry.Credentials(ctx, r.Image)
		if err != nil || own != r.Credentials {
			return nil
		}
	}
	return &i
}

// isPublic reports whether the registry shows an image to who has no credentials.
func (m *Mirror) isPublic(ctx context.Context, image string) bool {
	own, err := m.o.Registry.Credentials(ctx, image)
	if err != nil || own != (puller.Credentials{}) {
		return false
	}
	_, err = m.o.Registry.Head(ctx, image, puller.Credentials{})
	return err == nil
}

// shared is an image that this host holds for others.
type shared struct {
	*images.Held
	idle *time.Timer
}

// Open implements sharing.Host.
func (m *Mirror) Open(ctx context.Context, i sharing.Image) (sharing.Held, error) {
	m.mu.Lock()
	known, life, off := m.shared[i], m.ctx, m.address == ""
	m.mu.Unlock()
	if off {
		return nil, errOff
	}
	if known != nil {
		known.idle.Reset(sharedFor)
		return known, nil
	}
	image := i.Repository + "@" + i.Digest
	own, err := m.o.Registry.Credentials(ctx, image)
	if err != nil {
		return nil, err
	}
	img, err := m.images.Open(ctx, life, puller.Pull{Image: image, Credentials: own}, &i)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch other := m.shared[i]; {
	case m.address == "":
		err = errOff
	case other != nil:
		img.Close()
		return other, nil
	case len(m.shared) >= maxShared:
		err = puller.Errorf(puller.ErrOverloaded, "%d images are held for other hosts already", maxShared)
	}
	if err != nil {
		img.Close()
		return nil, err
	}
	s := &shared{img.Held(), time.NewTimer(sharedFor)}
	m.shared[i] = s
	m.closing.Go(func() {
		await(s.Context(), s.idle)
		m.mu.Lock()
		delete(m.shared, i)
		m.mu.Unlock()
		s.Close()
	})
	return s, nil
}

// await returns when ctx ends or a timer does.
func await(ctx context.Context, idle *time.Timer) {
	select {
	case <-ctx.Done():
		idle.Stop()
	case <-idle.C:
	}
}
