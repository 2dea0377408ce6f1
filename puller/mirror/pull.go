package mirror

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/mirror/way"
	"github.com/towline/towline/puller/names"
)

// pull is one image that Towline fetches for the engine, with one caller's credentials.
type pull struct {
	mirror   *Mirror
	request  puller.Pull
	trial    *way.Trial // of a trial; then there is no request
	registry string
	identity [sha256.Size]byte
	repo     puller.Repository

	name    string // the repository of the temporary name; "" if there is none
	joined  bool   // the engine brings a layer once for all pulls at a time
	arrived func() // called when all blobs that were wanted are here; nil for nothing

	// shared is the image that other hosts share with this one, nil for one that none do.
	// using is held while it is decided whether they may have a blob.
	shared *sharing.Image
	using  sync.Mutex

	ctx    context.Context // ends with the pull, or when fetching fails
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	digest    string                        // that the image's own name stands for
	manifests map[string]puller.RawManifest // by digest
	documents map[string]document           // the same
	sizes     map[string]int64              // of the blobs that may be asked for, by digest
	order     []puller.Blob                 // of the image that the engine asked for
	blobs     map[string]*blobs.Blob        // in use
	wanted    map[string]bool               // that the engine lacks
	present   map[string]bool               // that the engine has
	fetching  bool                          // a start of the fetch is due
	fetched   int64                         // bytes from the registry
	taken     int64                         // bytes from other hosts
	notices   []string                      // that readers were not told yet
	tags      map[string]tag                // of a pull that is not a job's
	idle      *time.Timer                   // closes it
	work      sync.WaitGroup
}

// open asks for the repository.
func (p *pull) open(ctx context.Context) (err error) {
	p.registry = names.RegistryOf(p.request.Image)
	if p.shared != nil {
		p.identity = p.sharedIdentity()
	} else {
		p.identity = p.request.Credentials.Identity(p.mirror.key)
	}
	p.manifests, p.documents = make(map[string]puller.RawManifest), make(map[string]document)
	p.sizes, p.blobs = make(map[string]int64), make(map[string]*blobs.Blob)
	p.wanted, p.present = make(map[string]bool), make(map[string]bool)
	p.repo, err = p.mirror.o.Registry.Repository(ctx, p.request.Image, p.request.Credentials)
	return err
}

// read returns what a manifest lists, and keeps it to serve it.
func (p *pull) read(ctx context.Context, reference string) (document, error) {
	p.mu.Lock()
	d, ok := p.documents[reference]
	p.mu.Unlock()
	if ok {
		return d, nil
	}
	raw, err := p.fetchManifest(ctx, reference)
	if err != nil {
		return document{}, err
	}
	if d, err = parse(raw.Body); err != nil {
		return document{}, err
	}
	p.keep(raw, d)
	return d, nil
}

// keep notes a manifest that may be served, and what it lists.
func (p *pull) keep(raw puller.RawManifest, d document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.digest == "" {
		p.digest = raw.Digest
	}
	p.manifests[raw.Digest], p.documents[raw.Digest] = raw, d
	for _, b := range d.blobs {
		p.sizes[b.Digest] = b.Size
	}
}

// layer returns the layer of the image that the engine calls by an ID.
func (p *pull) layer(id string) (puller.Blob, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.order {
		if shortID(b.Digest) == id {
			return b, true
		}
	}
	return puller.Blob{}, false
}

// has notes that the engine has a layer.
func (p *pull) has(digest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present[digest] = true
}

// held is how much of a layer is here.
type held struct {
	puller.Blob
	have int64
}

func (p *pull) progress() (all []held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.order {
		if i == 0 || !p.wanted[b.Digest] { // the configuration is no layer
			continue
		}
		h := held{Blob: b}
		if open := p.blobs[b.Digest]; open != nil {
			h.have = open.Have()
		}
		all = append(all, h)
	}
	return all
}

// release gives back the blobs.
func (p *pull) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blobs {
		b.Release()
	}
	p.blobs = nil
}

// errUnlisted is why something is not served: it is of no image that is pulled.
func errUnlisted(what string) error {
	return puller.Errorf(puller.ErrNotFound, "%s is of no image that is pulled", what)
}

// fail ends what is fetched for the pull. The engine goes on by itself.
func (p *pull) fail(err error) {
	p.cancel(err)
	if p.idle != nil {
		p.idle.Reset(0) // the next request begins anew
	}
}
