package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/stream/pullstream"
)

// pull is one image that Towline fetches for the engine, with one caller's credentials.
// It implements puller.Acceleration.
type pull struct {
	mirror   *Mirror
	request  puller.Pull
	trial    *trial // of a trial; then there is no request
	registry string
	identity [sha256.Size]byte
	repo     puller.Repository

	name, file, reference string // the temporary name, and the file that notes it

	ctx    context.Context // ends with the pull, or when fetching fails
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	how       puller.Accelerated
	digest    string                        // that the image's own name stands for
	manifests map[string]puller.RawManifest // by digest
	documents map[string]document           // the same
	sizes     map[string]int64              // of the blobs that may be asked for, by digest
	order     []puller.Blob                 // of the image that the engine asked for
	blobs     map[string]*blobs.Blob        // in use
	wanted    map[string]bool               // that the engine lacks
	told      map[string]bool               // of those, that readers know are here
	fetching  bool                          // a start of the fetch is due
	fetched   int64                         // bytes from the registry
	tags      map[string]tag                // of a pull that is not a job's
	idle      *time.Timer                   // closes it
	work      sync.WaitGroup
}

// open asks for the repository.
func (p *pull) open(ctx context.Context) (err error) {
	p.registry = names.RegistryOf(p.request.Image)
	p.identity = p.request.Credentials.Identity(p.mirror.key)
	p.manifests, p.documents = make(map[string]puller.RawManifest), make(map[string]document)
	p.sizes, p.blobs, p.wanted = make(map[string]int64), make(map[string]*blobs.Blob), make(map[string]bool)
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
	raw, err := p.repo.Manifest(ctx, reference)
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

// alias gives the pull a temporary name.
func (p *pull) alias() (err error) {
	address, fault := p.mirror.endpoint()
	if fault != "" {
		return errors.New(fault)
	}
	p.name = newName()
	p.reference = address + "/" + p.name + "@" + p.digest
	p.file, err = p.mirror.aliases.add(p.reference)
	if err == nil {
		p.mirror.mu.Lock()
		p.mirror.pulls[p.name] = p
		p.mirror.mu.Unlock()
	}
	return err
}

// Pull implements puller.Acceleration.
func (p *pull) Pull(ctx context.Context, each func(pullstream.Message)) error {
	engine := p.mirror.o.Engine
	var telling sync.Mutex
	tell := func(m pullstream.Message) {
		telling.Lock()
		defer telling.Unlock()
		each(m)
	}
	if p.how.Way != puller.WayNone {
		err := p.through(ctx, tell)
		if err == nil && p.how.Way == puller.WayMirror {
			return nil
		}
		if ctx.Err() != nil || puller.KindOf(err) == puller.ErrEngineUnavailable {
			return err // the next attempt goes on from here
		}
		if err != nil {
			p.fallBack(err, tell)
		}
	}
	return engine.Pull(ctx, p.request, tell)
}

// through has the engine pull what Towline fetches. In the mirror way that is the pull
// itself.
func (p *pull) through(ctx context.Context, tell func(pullstream.Message)) error {
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		p.show(p.ctx, tell)
	}()
	defer func() {
		p.cancel(context.Canceled)
		p.work.Wait()
		<-shown
	}()
	request := p.request
	if p.how.Way == puller.WayAlias {
		request.Image, request.Credentials = p.reference, puller.Credentials{}
	}
	pulling := p.ctx
	if p.how.Way == puller.WayMirror {
		pulling = ctx // the engine goes on by itself where Towline fails
	}
	each := func(m pullstream.Message) {
		if p.note(m) {
			p.tellWhole(m, tell)
			tell(m)
		}
		if b, ok := p.layer(m.ID); ok && m.Status == "Pulling fs layer" {
			tell(pullstream.Message{ID: m.ID, Status: "Downloading", Detail: pullstream.Detail{Total: b.Size}})
		}
	}
	err := p.mirror.o.Engine.Pull(pulling, request, each)
	if err != nil && p.how.Way == puller.WayAlias && p.ctx.Err() == nil && puller.KindOf(err) != puller.ErrEngineUnavailable {
		// A blob whose digest was wrong is fetched again, but the engine had got some of
		// its bytes.
		err = p.mirror.o.Engine.Pull(pulling, request, each)
	}
	if cause := context.Cause(p.ctx); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	return err
}

// fallBack says that the engine pulls by itself, and why.
func (p *pull) fallBack(err error, tell func(pullstream.Message)) {
	reason := puller.Inner(err).Error()
	p.mu.Lock()
	p.how.Way, p.how.Reason = puller.WayNone, "the accelerated pull failed: "+reason
	p.mu.Unlock()
	p.mirror.o.Log.WithField("image", p.request.Image).Warn("the accelerated pull failed, and the engine pulls by itself: " + reason)
	p.mirror.metrics.fallbacks.Inc()
	tell(pullstream.Message{Status: "the accelerated pull failed, and the engine pulls by itself: " + puller.ClipTo(reason, 1<<10)})
}

// note takes in a message of the engine, and reports whether readers are told of it.
// Which layers the engine lacks only its messages say. How far they are, Towline knows
// better.
func (p *pull) note(m pullstream.Message) (tell bool) {
	if _, failed := m.Failure(); failed {
		return p.how.Way == puller.WayMirror
	}
	if m.ID == "" {
		// In the alias way the end of the stream is not that of the image's own name.
		ending := strings.HasPrefix(m.Status, "Digest: ") || strings.HasPrefix(m.Status, "Status: ")
		return p.how.Way == puller.WayMirror || !ending
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting", "Downloading":
		if b, ok := p.layer(m.ID); ok {
			p.want(b.Digest)
			if m.Status != "Downloading" {
				return true
			}
			return false
		}
	case "Verifying Checksum", "Download complete":
		_, ok := p.layer(m.ID)
		return !ok
	}
	return true
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

// showEvery is how often readers are told how far the layers are.
const showEvery = 200 * time.Millisecond

// show tells how far the layers are that the engine lacks, until ctx ends.
func (p *pull) show(ctx context.Context, tell func(pullstream.Message)) {
	told := make(map[string]int64)
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	for ended := false; ; {
		for _, b := range p.progress() {
			if told[b.Digest] == b.have {
				continue
			}
			told[b.Digest] = b.have
			if b.have < b.Size {
				tell(downloading(b.Blob, b.have))
			} else if p.firstWhole(b.Digest) {
				tellDownloaded(b.Blob, tell)
			}
		}
		if ended {
			return
		}
		select {
		case <-ctx.Done():
			ended = true // once more, for what came last
		case <-ticker.C:
		}
	}
}

// tellWhole tells that a layer is here before the engine's message that it does something
// with it: show may not have come to it.
func (p *pull) tellWhole(m pullstream.Message, tell func(pullstream.Message)) {
	if m.Status != "Extracting" && m.Status != "Pull complete" {
		return
	}
	if b, ok := p.layer(m.ID); ok && p.firstWhole(b.Digest) {
		tellDownloaded(b, tell)
	}
}

// firstWhole reports whether readers are to be told now that a layer is here.
func (p *pull) firstWhole(digest string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted[digest] || p.told[digest] {
		return false
	}
	if p.told == nil {
		p.told = make(map[string]bool)
	}
	p.told[digest] = true
	return true
}

func tellDownloaded(b puller.Blob, tell func(pullstream.Message)) {
	tell(downloading(b, b.Size))
	tell(pullstream.Message{ID: shortID(b.Digest), Status: "Download complete"})
}

func downloading(b puller.Blob, have int64) pullstream.Message {
	return pullstream.Message{ID: shortID(b.Digest), Status: "Downloading", Detail: pullstream.Detail{Current: have, Total: b.Size}}
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

// Accelerated implements puller.Acceleration.
func (p *pull) Accelerated() puller.Accelerated {
	p.mu.Lock()
	defer p.mu.Unlock()
	how := p.how
	how.FromRegistry = p.fetched
	for digest := range p.wanted {
		if b := p.blobs[digest]; b != nil {
			how.FromCache += b.Have()
		}
	}
	how.FromCache = max(0, how.FromCache-how.FromRegistry)
	return how
}

// Close implements puller.Acceleration.
func (p *pull) Close() {
	m := p.mirror
	m.mu.Lock()
	if p.name != "" {
		delete(m.pulls, p.name)
	}
	if m.named[p.request.Image] == p {
		delete(m.named, p.request.Image)
	}
	m.mu.Unlock()
	if p.file != "" {
		m.aliases.remove(p.file, names.EngineRef(p.reference))
	}
	p.cancel(context.Canceled)
	p.release()
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
