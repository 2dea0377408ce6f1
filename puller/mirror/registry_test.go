package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// registry keeps images in memory.
type registry struct {
	puller.Registry
	mu      sync.Mutex
	repos   map[string]*repository
	sent    map[string]int64 // bytes of blobs to Towline, by digest
	engine  map[string]int64 // the same, to the engine
	reads   []string         // of manifests, by Towline
	own     puller.Credentials
	ranges  bool // it serves ranges
	blob    func(ctx context.Context, digest string, from, to int64) ([]byte, error)
	started chan struct{} // receives one for each blob that Towline asks for, unless it is nil
}

type repository struct {
	manifests map[string][]byte // by tag and digest
	blobs     map[string][]byte
	password  string // of those who may read it, "" for all
	trickles  int    // bytes a second of each connection; 0 for all at once
}

func newRegistry() *registry {
	return &registry{repos: make(map[string]*repository), sent: make(map[string]int64), engine: make(map[string]int64), ranges: true}
}

// random returns bytes that no compression makes smaller, the same for a seed.
func random(seed uint64, size int) []byte {
	body := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	source.Read(body)
	return body
}

// push adds an image of some layers, with a tag, and returns its digest.
func (r *registry) push(name, tag string, layers ...[]byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repos[name]
	if repo == nil {
		repo = &repository{manifests: make(map[string][]byte), blobs: make(map[string][]byte)}
		r.repos[name] = repo
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}
	add := func(media string, body []byte) descriptor {
		id := digest.FromBytes(body).String()
		repo.blobs[id] = body
		return descriptor{media, id, len(body)}
	}
	m := map[string]any{"schemaVersion": 2, "config": add("application/vnd.docker.container.image.v1+json", []byte(fmt.Sprintf(`{"os":"linux","architecture":"amd64","n":%q}`, name+tag)))}
	var all []descriptor
	for _, l := range layers {
		all = append(all, add("application/vnd.docker.image.rootfs.diff.tar.gzip", l))
	}
	m["layers"] = all
	body, _ := json.Marshal(m) // of maps and strings
	id := digest.FromBytes(body).String()
	repo.manifests[id], repo.manifests[tag] = body, body
	return id
}

// index puts an index of images before a tag, and returns its digest.
func (r *registry) index(name, tag string, children map[string]string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	type object = map[string]any
	var all []object
	for architecture, id := range children {
		all = append(all, object{"digest": id, "size": 1, "platform": object{"os": "linux", "architecture": architecture}})
	}
	body, _ := json.Marshal(object{"schemaVersion": 2, "manifests": all})
	id := digest.FromBytes(body).String()
	repo := r.repos[name]
	repo.manifests[id], repo.manifests[tag] = body, body
	return id
}

// get is what an engine gets without Towline.
func (r *registry) get(name, kind, id, _ string) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repos[name]
	if repo == nil {
		return nil, fmt.Errorf("no repository %s", name)
	}
	body, ok := repo.manifests[id]
	if kind == "blobs" {
		if body, ok = repo.blobs[id]; ok {
			r.engine[id] += int64(len(body))
		}
	}
	if !ok {
		return nil, fmt.Errorf("no %s %s", kind, id)
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

func (r *registry) Credentials(context.Context, string) (puller.Credentials, error) {
	return r.own, nil
}

// Head implements puller.Registry.
func (r *registry) Head(_ context.Context, image string, c puller.Credentials) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := names.ParseName(image)
	_, err := (&reader{r, at.Repository, c}).open()
	return at.Digest, err
}

// Repository implements puller.Registry.
func (r *registry) Repository(_ context.Context, image string, c puller.Credentials) (puller.Repository, error) {
	return &reader{r, names.ParseName(image).Repository, c}, nil
}

// reader reads one repository.
type reader struct {
	*registry
	name        string
	credentials puller.Credentials
}

func (r *reader) open() (*repository, error) {
	repo := r.repos[r.name]
	switch {
	case repo == nil:
		return nil, puller.Errorf(puller.ErrNotFound, "no repository %s", r.name)
	case repo.password != "" && r.credentials.Header() != repo.password:
		return nil, puller.Errorf(puller.ErrDenied, "no access to %s", r.name)
	}
	return repo, nil
}

// Manifest implements puller.Repository.
func (r *reader) Manifest(_ context.Context, reference string) (puller.RawManifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo, err := r.open()
	if err != nil {
		return puller.RawManifest{}, err
	}
	body, ok := repo.manifests[reference]
	if !ok {
		return puller.RawManifest{}, puller.Errorf(puller.ErrNotFound, "no manifest %s", reference)
	}
	r.reads = append(r.reads, reference)
	return puller.RawManifest{Body: body, MediaType: "application/vnd.docker.distribution.manifest.v2+json", Digest: digest.FromBytes(body).String()}, nil
}

// Referrers implements puller.Repository.
func (r *reader) Referrers(context.Context, string) (puller.RawManifest, error) {
	return puller.RawManifest{}, puller.Errorf(puller.ErrNotFound, "no referrers")
}

// Blob implements puller.Repository.
func (r *reader) Blob(ctx context.Context, id string, from, to, size int64) (puller.BlobBody, error) {
	r.mu.Lock()
	repo, err := r.open()
	if err != nil {
		r.mu.Unlock()
		return puller.BlobBody{}, err
	}
	body, ok := repo.blobs[id]
	fault, started, ranges := r.registry.blob, r.started, r.ranges
	r.mu.Unlock()
	if started != nil {
		started <- struct{}{}
	}
	if !ok {
		return puller.BlobBody{}, puller.Errorf(puller.ErrNotFound, "no blob %s", id)
	}
	if !ranges {
		from, to = 0, size
	}
	part := body[from:to]
	if fault != nil {
		if part, err = fault(ctx, id, from, to); err != nil {
			return puller.BlobBody{}, err
		}
		if part == nil {
			part = body[from:to]
		}
	}
	if repo.trickles > 0 {
		return puller.BlobBody{ReadCloser: trickle{ctx, repo.trickles}, Whole: !ranges}, nil
	}
	return puller.BlobBody{ReadCloser: &counted{Reader: bytes.NewReader(part), r: r.registry, id: id}, Whole: !ranges}, nil
}

// trickle is a body of zeros, so many a second.
type trickle struct {
	ctx  context.Context
	rate int
}

func (t trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p = p[:min(len(p), t.rate)]
		clear(p)
		return len(p), nil
	case <-t.ctx.Done():
		return 0, t.ctx.Err()
	}
}

func (t trickle) Close() error { return nil }

// counted counts what is read of a blob.
type counted struct {
	*bytes.Reader
	r  *registry
	id string
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.sent[c.id] += int64(n)
	return n, err
}

func (c *counted) Close() error { return nil }
