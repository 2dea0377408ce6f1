package images

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// Manifests are those of an image that were read, and what they list. Its methods may be
// called from anywhere.
type Manifests struct {
	image      string // in full form
	repository puller.Repository
	fetch      func(ctx context.Context, reference string) (puller.RawManifest, error)

	mu        sync.Mutex
	first     string                        // the digest of the one that was read first
	raw       map[string]puller.RawManifest // by digest
	documents map[string]document           // the same
	sizes     map[string]int64              // of the blobs that they list, by digest
	bytes     int                           // of raw
	order     []puller.Blob                 // of the image that the engine asked for
}

// newManifests returns the manifests of an image in full form. fetch asks for one of them.
func newManifests(image string, r puller.Repository, fetch func(ctx context.Context, reference string) (puller.RawManifest, error)) *Manifests {
	return &Manifests{
		image: image, repository: r, fetch: fetch,
		raw: make(map[string]puller.RawManifest), documents: make(map[string]document), sizes: make(map[string]int64),
	}
}

// Resolve asks the registry what the image is made of for a platform, and returns its size
// in bytes.
func (m *Manifests) Resolve(ctx context.Context, platform string) (size int64, err error) {
	at := names.ParseName(m.image)
	reference := at.Tag
	if at.Digest != "" {
		reference = at.Digest
	}
	d, err := m.read(ctx, reference)
	if err != nil {
		return 0, err
	}
	if len(d.children) > 0 {
		child := d.choose(platform)
		if child == "" {
			return 0, fmt.Errorf("its index has no image for %s", platform)
		}
		if d, err = m.read(ctx, child); err != nil {
			return 0, err
		}
	}
	return d.size(), nil
}

// Find asks the registry for the manifest that a tag or a digest of the repository stands
// for, and returns its digest. From then on it is one of these.
func (m *Manifests) Find(ctx context.Context, reference string) (string, error) {
	raw, err := m.repository.Manifest(ctx, reference)
	if err != nil {
		return "", err
	}
	d, err := parse(raw.Body)
	if err != nil {
		return "", err
	}
	m.keep(raw, d)
	return raw.Digest, nil
}

// Serve returns a manifest that the engine asks for, by its digest. That of an image says
// which blobs the engine is about to ask for.
func (m *Manifests) Serve(ctx context.Context, digest string) (puller.RawManifest, error) {
	d, err := m.read(ctx, digest)
	if err != nil {
		return puller.RawManifest{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(d.blobs) > 0 {
		m.order = d.blobs
	}
	return m.raw[digest], nil
}

// Referrers asks the registry for the index of what refers to a manifest.
func (m *Manifests) Referrers(ctx context.Context, digest string) (puller.RawManifest, error) {
	return m.repository.Referrers(ctx, digest)
}

// Digest returns what the image's own name stood for when it was resolved.
func (m *Manifests) Digest() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first
}

// Has reports whether a manifest was read.
func (m *Manifests) Has(digest string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.raw[digest]
	return known
}

// Bytes returns how long the manifests are that were read.
func (m *Manifests) Bytes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// Lists reports whether a manifest was read, or an index that was read lists it.
func (m *Manifests) Lists(digest string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.raw[digest]
	for _, d := range m.documents {
		known = known || d.lists(digest)
	}
	return known
}

// Layer returns the layer that the engine calls by an ID.
func (m *Manifests) Layer(id string) (puller.Blob, bool) {
	for _, b := range m.listed() {
		if ShortID(b.Digest) == id {
			return b, true
		}
	}
	return puller.Blob{}, false
}

// read returns what a manifest lists, and keeps it to serve it.
func (m *Manifests) read(ctx context.Context, reference string) (document, error) {
	if d, ok := m.known(reference); ok {
		return d, nil
	}
	raw, err := m.fetch(ctx, reference)
	if err != nil {
		return document{}, err
	}
	d, err := parse(raw.Body)
	if err == nil {
		m.keep(raw, d)
	}
	return d, err
}

func (m *Manifests) known(digest string) (d document, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok = m.documents[digest]
	return d, ok
}

// keep notes a manifest that may be served, and what it lists.
func (m *Manifests) keep(raw puller.RawManifest, d document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first == "" {
		m.first = raw.Digest
	}
	m.bytes += len(raw.Body) - len(m.raw[raw.Digest].Body)
	m.raw[raw.Digest], m.documents[raw.Digest] = raw, d
	for _, b := range d.blobs {
		m.sizes[b.Digest] = b.Size
	}
}

// get returns a manifest that was read.
func (m *Manifests) get(digest string) puller.RawManifest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.raw[digest]
}

// size returns the size of a blob in bytes, if a manifest lists it.
func (m *Manifests) size(blob string) (size int64, listed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size, listed = m.sizes[blob]
	return size, listed
}

// listing returns the digest of a manifest that lists a blob.
func (m *Manifests) listing(blob string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for manifest, d := range m.documents {
		if d.has(blob) {
			return manifest
		}
	}
	return ""
}

// listed returns the blobs of the image that the engine asked for: the configuration, then
// the layers from the base up.
func (m *Manifests) listed() []puller.Blob {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.order // it is replaced, never changed
}

// layers returns the layers of the image that the engine asked for, from the base up.
func (m *Manifests) layers() []puller.Blob {
	all := m.listed()
	return all[min(1, len(all)):]
}

// below returns how many layers of the image are below a layer.
func (m *Manifests) below(digest string) int {
	i := slices.IndexFunc(m.listed(), func(b puller.Blob) bool { return b.Digest == digest })
	return max(0, i-1)
}
