package mirror

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/images"
	"github.com/towline/towline/puller/names"
)

const (
	// publicFor is how long new manifests of a repository are added to what is served of it,
	// and how long that is remembered after the last request.
	publicFor = 10 * time.Minute
	// maxPublic is how many of these are remembered.
	maxPublic = 100
	// maxPublicBytes is how many bytes of manifests one has before another is begun, and
	// maxPublicTags the same for tags.
	maxPublicBytes, maxPublicTags = 1 << 20, 1000
	// tagFor is how long a tag is not asked for again: an engine asks with HEAD, and
	// then with GET.
	tagFor = 5 * time.Second
)

// public is a part of a repository whose images are served to every pull: what was asked for
// first within publicFor. Parts end one by one, so a repository that is always asked for has
// neither all of its manifests in memory nor all of its blobs in use.
type public struct {
	mirror     *Mirror
	repository string
	image      *images.Image
	begun      time.Time

	mu    sync.Mutex
	tags  map[string]tag
	users int       // answers that are being sent
	used  time.Time // when the last one ended
}

// tag is what a tag stood for.
type tag struct {
	digest string
	at     time.Time
}

// ask calls use with the images that an engine's request to a mirror may be for: those of
// jobs, of which there may be several for one repository, and then what the endpoint serves
// to every pull, the newest first. It ends with the first that has what is asked for. A
// request without ns is for Docker Hub (Docker, "registry-mirrors").
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
	var found []offer
	for image, a := range m.named {
		if names.ParseName(image).Repository == repository {
			found = append(found, a)
		}
	}
	newest := m.newestPublic(repository)
	for _, p := range slices.Backward(m.public[repository]) {
		found = append(found, p)
	}
	m.mu.Unlock()
	err = images.Unlisted(puller.Clip(repository))
	var failed error // of one that can't be fetched: another one could not either
	for _, o := range found {
		if err = use(o); err == nil {
			return nil
		}
		if puller.KindOf(err) != puller.ErrNotFound {
			failed = err
		}
	}
	if failed != nil {
		return failed
	}
	if newest != nil && !newest.isFull() {
		return err
	}
	if way, _ := m.ways.Last(); !m.o.PullThrough && way != puller.WayMirror {
		return err
	}
	own, err := m.openPublic(ctx, reference.TrimNamed(named))
	if err != nil {
		return err
	}
	return use(own)
}

// newestPublic returns the part of a repository that was begun last, nil for none. The lock
// is held.
func (m *Mirror) newestPublic(repository string) *public {
	if all := m.public[repository]; len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// openPublic begins to serve a part of a public repository.
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
	parts := 0
	for _, all := range m.public {
		parts += len(all)
	}
	switch other := m.newestPublic(repository); {
	case m.address == "":
		err = images.Unlisted(puller.Clip(repository))
	case other != nil && !other.isFull():
		img.Close()
		return other, nil
	case parts >= maxPublic:
		err = puller.Errorf(puller.ErrOverloaded, "the endpoint serves %d repositories already", maxPublic)
	}
	if err != nil {
		img.Close()
		return nil, err
	}
	now := time.Now()
	p := &public{mirror: m, repository: repository, image: img, begun: now, used: now, tags: make(map[string]tag)}
	m.public[repository] = append(m.public[repository], p)
	m.closing.Go(func() {
		p.await()
		m.mu.Lock()
		left := slices.DeleteFunc(slices.Clone(m.public[repository]), func(other *public) bool { return other == p })
		if m.public[repository] = left; len(left) == 0 {
			delete(m.public, repository)
		}
		m.mu.Unlock()
		img.Close()
	})
	return p, nil
}

// await returns when nothing of it was asked for for a while. Where it can't be fetched, it
// ends at once, and the next request begins anew.
func (p *public) await() {
	for left := publicFor; left > 0; {
		select {
		case <-p.image.Context().Done():
			return
		case <-time.After(left):
		}
		p.mu.Lock()
		left = publicFor
		if p.users == 0 {
			left -= time.Since(p.used)
		}
		p.mu.Unlock()
	}
}

// isFull reports whether no manifest is added to it any more.
func (p *public) isFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.begun) >= publicFor || len(p.tags) >= maxPublicTags || p.image.Manifests.Bytes() >= maxPublicBytes
}

// content implements offer.
func (p *public) content() *images.Image { return p.image }

// use implements offer.
func (p *public) use() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.users--
		p.used = time.Now()
	}
}

// lookUp implements offer. It asks the registry what a tag stands for.
func (p *public) lookUp(ctx context.Context, ref string) (string, error) {
	if p.image.Manifests.Has(ref) {
		return ref, nil
	}
	p.mu.Lock()
	known, ok := p.tags[ref]
	p.mu.Unlock()
	switch {
	case ok && time.Since(known.at) < tagFor:
		return known.digest, nil
	case p.isFull():
		return "", images.Unlisted(puller.Clip(ref))
	case p.image.Manifests.Lists(ref):
		return ref, nil
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
