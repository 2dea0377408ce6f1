package mirror

import (
	"context"
	"maps"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

const (
	// publicFor is how long what was served of a repository is remembered after the
	// last request.
	publicFor = 10 * time.Minute
	// maxPublic is how many repositories are remembered.
	maxPublic = 100
	// tagFor is how long a tag is not asked for again: an engine asks with HEAD, and
	// then with GET.
	tagFor = 5 * time.Second
)

// public returns the pull that an engine's request to a mirror is part of: a job's, or
// else one of the endpoint's own, where public images are served to every pull.
// A request without ns is for Docker Hub (Docker, "registry-mirrors").
func (m *Mirror) public(ctx context.Context, ns, name string) (*pull, error) {
	if ns == "" {
		ns = names.Hub
	}
	repository := ns + "/" + name
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return nil, errUnlisted(puller.Clip(repository))
	}
	repository = named.Name()
	m.mu.Lock()
	for image, p := range m.named {
		if names.ParseName(image).Repository == repository {
			m.mu.Unlock()
			return p, nil
		}
	}
	p := m.through[repository]
	m.mu.Unlock()
	if p != nil {
		return p, nil
	}
	way, _ := m.ways.last()
	if !m.o.PullThrough && way != puller.WayMirror {
		return nil, errUnlisted(puller.Clip(repository))
	}
	return m.openPublic(ctx, repository, reference.TagNameOnly(named))
}

// openPublic begins to serve a public repository.
func (m *Mirror) openPublic(ctx context.Context, repository string, named reference.Named) (*pull, error) {
	if m.o.Rules != nil {
		if err := m.o.Rules.CheckName(named); err != nil {
			return nil, errUnlisted(puller.Clip(repository))
		}
	}
	// Whoever reaches the endpoint could have what Towline's own credentials fetch.
	own, err := m.o.Registry.Credentials(ctx, named.String())
	if err != nil || own != (puller.Credentials{}) {
		return nil, errUnlisted(puller.Clip(repository))
	}
	p := &pull{mirror: m, request: puller.Pull{Image: named.String()}, tags: make(map[string]tag)}
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.address == "" {
		return nil, errUnlisted(puller.Clip(repository))
	}
	p.ctx, p.cancel = context.WithCancelCause(m.ctx)
	if other := m.through[repository]; other != nil {
		return other, nil
	}
	if len(m.through) >= maxPublic {
		return nil, puller.Errorf(puller.ErrOverloaded, "the endpoint serves %d repositories already", maxPublic)
	}
	m.through[repository] = p
	p.idle = time.AfterFunc(publicFor, func() { m.closePublic(repository, p) })
	return p, nil
}

// closeAll ends what is not a job's.
func (m *Mirror) closeAll() {
	m.mu.Lock()
	open := maps.Clone(m.through)
	m.mu.Unlock()
	for repository, p := range open {
		p.idle.Stop()
		m.closePublic(repository, p)
	}
}

func (m *Mirror) closePublic(repository string, p *pull) {
	m.mu.Lock()
	if m.through[repository] == p {
		delete(m.through, repository)
	}
	m.mu.Unlock()
	p.cancel(context.Canceled)
	p.work.Wait()
	p.release()
}

// tag is what a tag stood for.
type tag struct {
	digest string
	at     time.Time
}

// resolvePublic returns the digest of a manifest that is asked for by the image's own
// name.
func (p *pull) resolvePublic(ctx context.Context, ref string) (string, error) {
	if p.tags == nil { // a job's
		if at := names.ParseName(p.request.Image); at.Digest == "" && at.Tag == ref {
			return p.digest, nil
		}
		return "", errUnlisted(puller.Clip(ref))
	}
	p.idle.Reset(publicFor)
	p.mu.Lock()
	known, ok := p.tags[ref]
	p.mu.Unlock()
	if ok && time.Since(known.at) < tagFor {
		return known.digest, nil
	}
	raw, err := p.repo.Manifest(ctx, ref)
	if err != nil {
		return "", err
	}
	d, err := parse(raw.Body)
	if err != nil {
		return "", err
	}
	p.keep(raw, d)
	if digest.Digest(ref).Validate() != nil {
		p.mu.Lock()
		p.tags[ref] = tag{raw.Digest, time.Now()}
		p.mu.Unlock()
	}
	return raw.Digest, nil
}
