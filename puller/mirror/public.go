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

// public calls use with the pulls that an engine's request to a mirror may be part of:
// those of jobs, of which there may be several for one repository, and then one of the
// endpoint's own, where public images are served to every pull. It ends with the first
// that has what is asked for. A request without ns is for Docker Hub (Docker,
// "registry-mirrors").
func (m *Mirror) public(ctx context.Context, ns, name string, use func(*pull) error) error {
	if ns == "" {
		ns = names.Hub
	}
	named, err := reference.ParseNormalizedNamed(ns + "/" + name)
	if err != nil {
		return errUnlisted(puller.Clip(ns + "/" + name))
	}
	repository := named.Name()
	m.mu.Lock()
	var found []*pull
	for image, p := range m.named {
		if names.ParseName(image).Repository == repository {
			found = append(found, p)
		}
	}
	own := m.through[repository]
	m.mu.Unlock()
	err = errUnlisted(puller.Clip(repository))
	for _, p := range found {
		if err = use(p); puller.KindOf(err) != puller.ErrNotFound || err == nil {
			return err
		}
	}
	if own == nil {
		if way, _ := m.ways.Last(); !m.o.PullThrough && way != puller.WayMirror {
			return err
		}
		if own, err = m.openPublic(ctx, reference.TrimNamed(named)); err != nil {
			return err
		}
	}
	return use(own)
}

// openPublic begins to serve a public repository.
func (m *Mirror) openPublic(ctx context.Context, named reference.Named) (*pull, error) {
	repository := named.Name()
	// Each process that reaches the endpoint could have what Towline's own credentials fetch.
	image := reference.TagNameOnly(named).String()
	own, err := m.o.Registry.Credentials(ctx, image)
	if err != nil || own != (puller.Credentials{}) {
		return nil, errUnlisted(puller.Clip(repository))
	}
	p := &pull{mirror: m, request: puller.Pull{Image: image}, tags: make(map[string]tag)}
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.address == "" {
		return nil, errUnlisted(puller.Clip(repository))
	}
	if other := m.through[repository]; other != nil {
		return other, nil
	}
	if len(m.through) >= maxPublic {
		return nil, puller.Errorf(puller.ErrOverloaded, "the endpoint serves %d repositories already", maxPublic)
	}
	p.ctx, p.cancel = context.WithCancelCause(m.ctx)
	m.through[repository] = p
	p.idle = time.AfterFunc(publicFor, func() { m.closePublic(repository, p) })
	return p, nil
}

// closeAll ends what is not a job's.
func (m *Mirror) closeAll() {
	m.mu.Lock()
	open, shared := maps.Clone(m.through), maps.Clone(m.shared)
	m.mu.Unlock()
	for _, p := range shared {
		p.idle.Stop()
		m.closeShared(p)
	}
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
	if err := p.checkRules(ref); err != nil {
		return "", err
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

// checkRules returns why a tag or a digest of a public repository is not served. The rules
// are for whole references: a tag may be forbidden while others of its repository are not.
func (p *pull) checkRules(ref string) error {
	rules := p.mirror.o.Rules
	if rules == nil {
		return nil
	}
	separator := ":"
	if digest.Digest(ref).Validate() == nil {
		separator = "@"
	}
	named, err := reference.ParseNormalizedNamed(names.ParseName(p.request.Image).Repository + separator + ref)
	if err == nil {
		err = rules.CheckName(named)
	}
	if err != nil {
		return errUnlisted(puller.Clip(ref))
	}
	return nil
}
