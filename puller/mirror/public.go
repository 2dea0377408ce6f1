package mirror

import (
	"context"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/images"
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

// public is a repository whose images are served to every pull.
type public struct {
	mirror     *Mirror
	repository string
	image      *images.Image
	idle       *time.Timer

	mu   sync.Mutex
	tags map[string]tag
}

// tag is what a tag stood for.
type tag struct {
	digest string
	at     time.Time
}

// ask calls use with the images that an engine's request to a mirror may be for: those of
// jobs, of which there may be several for one repository, and then one of the endpoint's
// own, where public images are served to every pull. It ends with the first that has what
// is asked for. A request without ns is for Docker Hub (Docker, "registry-mirrors").
func (m *Mirror) ask(ctx context.Context, ns, name string, use func(offer) error) error {
	if ns == "" {
		ns = names.Hub
	}
	named, err := reference.ParseNormalizedNamed(ns + "/" + name)
	if err != nil {
		return images.Unlisted(puller.Clip(ns + "/" + name))
	}
	repository := named.Name()
	m.mu.Lock()
	var found []*acceleration
	for image, a := range m.named {
		if names.ParseName(image).Repository == repository {
			found = append(found, a)
		}
	}
	own := m.public[repository]
	m.mu.Unlock()
	err = images.Unlisted(puller.Clip(repository))
	for _, a := range found {
		if err = use(a); puller.KindOf(err) != puller.ErrNotFound || err == nil {
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
func (m *Mirror) openPublic(ctx context.Context, named reference.Named) (*public, error) {
	repository := named.Name()
	// Each process that reaches the endpoint could have what Towline's own credentials fetch.
	image := reference.TagNameOnly(named).String()
	own, err := m.o.Registry.Credentials(ctx, image)
	if err != nil || own != (puller.Credentials{}) {
		return nil, images.Unlisted(puller.Clip(repository))
	}
	m.mu.Lock()
	life := m.ctx
	m.mu.Unlock()
	img, err := m.images.Open(ctx, life, puller.Pull{Image: image}, nil)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch other := m.public[repository]; {
	case m.address == "":
		err = images.Unlisted(puller.Clip(repository))
	case other != nil:
		img.Close()
		return other, nil
	case len(m.public) >= maxPublic:
		err = puller.Errorf(puller.ErrOverloaded, "the endpoint serves %d repositories already", maxPublic)
	}
	if err != nil {
		img.Close()
		return nil, err
	}
	p := &public{mirror: m, repository: repository, image: img, idle: time.NewTimer(publicFor), tags: make(map[string]tag)}
	m.public[repository] = p
	m.closing.Go(func() {
		// Where it can't be fetched, the next request begins anew.
		await(img.Context(), p.idle)
		m.mu.Lock()
		delete(m.public, repository)
		m.mu.Unlock()
		img.Close()
	})
	return p, nil
}

// await returns when ctx ends or a timer does.
func await(ctx context.Context, idle *time.Timer) {
	select {
	case <-ctx.Done():
		idle.Stop()
	case <-idle.C:
	}
}

// content implements offer. Each request calls it.
func (p *public) content() *images.Image {
	p.idle.Reset(publicFor)
	return p.image
}

// lookUp implements offer. It asks the registry what a tag stands for.
func (p *public) lookUp(ctx context.Context, ref string) (string, error) {
	if p.image.Manifests.Lists(ref) {
		return ref, nil
	}
	p.mu.Lock()
	known, ok := p.tags[ref]
	p.mu.Unlock()
	if ok && time.Since(known.at) < tagFor {
		return known.digest, nil
	}
	if err := p.checkRules(ref); err != nil {
		return "", err
	}
	found, err := p.image.Manifests.Find(ctx, ref)
	if err != nil {
		return "", err
	}
	if digest.Digest(ref).Validate() != nil {
		p.mu.Lock()
		p.tags[ref] = tag{found, time.Now()}
		p.mu.Unlock()
	}
	return found, nil
}

// checkRules returns why a tag or a digest of a public repository is not served. The rules
// are for whole references: a tag may be forbidden while others of its repository are not.
func (p *public) checkRules(ref string) error {
	rules := p.mirror.o.Rules
	if rules == nil {
		return nil
	}
	separator := ":"
	if digest.Digest(ref).Validate() == nil {
		separator = "@"
	}
	named, err := reference.ParseNormalizedNamed(p.repository + separator + ref)
	if err == nil {
		err = rules.CheckName(named)
	}
	if err != nil {
		return images.Unlisted(puller.Clip(ref))
	}
	return nil
}
