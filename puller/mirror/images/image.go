package images

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/sharing"
)

// Image is an image that is fetched with one caller's credentials, or the images of a
// repository. It knows nothing of the engine but which blobs it lacks. Its methods may be
// called from anywhere.
type Image struct {
	images     *Images
	request    puller.Pull
	repository puller.Repository
	access     access
	arrived    chan struct{}

	Manifests *Manifests // is not replaced

	// shared is the image that other hosts share with this one, nil for one that none do.
	// using is held while it is decided whether they may have a blob.
	shared *sharing.Image
	using  sync.Mutex

	ctx    context.Context // ends with the image, or when fetching fails
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // of fetches

	mu       sync.Mutex
	blobs    map[string]*blobs.Blob // in use; nil once the image is closed
	wanted   map[string]bool        // that the engine lacks
	present  map[string]bool        // that the engine has
	fetching bool                   // a start of the fetch is due
	fetched  int64                  // bytes from the registry
	taken    int64                  // bytes from other hosts
	notices  []string               // that readers were not told yet
}

// Context ends when the image is closed or can't be fetched. Its cause says why.
func (img *Image) Context() context.Context { return img.ctx }

// Arrived receives when all blobs that were wanted are here.
func (img *Image) Arrived() <-chan struct{} { return img.arrived }

// Stop ends what is fetched, and waits for it. What arrived may still be read.
func (img *Image) Stop() {
	img.mu.Lock()
	img.cancel(context.Canceled) // no fetch begins any more
	img.mu.Unlock()
	img.work.Wait()
}

// Close stops the image and gives back its blobs. It may be called more than once.
func (img *Image) Close() {
	img.Stop()
	img.mu.Lock()
	defer img.mu.Unlock()
	for _, b := range img.blobs {
		b.Release()
	}
	img.blobs = nil
}

// fetchManifest returns a manifest from the registry, or from a host that shares the image.
func (img *Image) fetchManifest(ctx context.Context, reference string) (puller.RawManifest, error) {
	if img.shared != nil && digest.Digest(reference).Validate() == nil {
		return img.images.o.Peers.Manifest(ctx, *img.shared, reference, source{img})
	}
	return img.repository.Manifest(ctx, reference)
}

// Has notes that the engine has a layer.
func (img *Image) Has(digest string) {
	img.mu.Lock()
	defer img.mu.Unlock()
	img.present[digest] = true
}

// gather is how long a fetch waits for the engine to name the layers that it lacks, so
// that they are fetched from the base up.
const gather = 5 * time.Millisecond

// Want has a blob fetched.
func (img *Image) Want(digest string) {
	img.mu.Lock()
	defer img.mu.Unlock()
	if img.wanted[digest] || img.ctx.Err() != nil {
		return
	}
	img.wanted[digest] = true
	if img.fetching {
		return
	}
	img.fetching = true
	img.work.Go(func() {
		select {
		case <-time.After(gather):
		case <-img.ctx.Done():
		}
		switch err := img.fetch(img.list()); {
		case err == nil:
			select {
			case img.arrived <- struct{}{}:
			default: // it is known already
			}
		case img.ctx.Err() == nil:
			img.cancel(err) // the engine goes on by itself
		}
	})
}

// Wanted reports whether the engine lacks a blob.
func (img *Image) Wanted(digest string) bool {
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.wanted[digest]
}

// list returns the digests of the blobs that are wanted, from the base up.
func (img *Image) list() (all []string) {
	layers := img.Manifests.listed()
	img.mu.Lock()
	defer img.mu.Unlock()
	img.fetching = false
	for _, b := range layers {
		if img.wanted[b.Digest] && !slices.Contains(all, b.Digest) {
			all = append(all, b.Digest)
		}
	}
	for digest := range img.wanted {
		if !slices.Contains(all, digest) {
			all = append(all, digest)
		}
	}
	return all
}

// blob returns a blob of the image, which stays in use until the image is closed.
func (img *Image) blob(digest string) (*blobs.Blob, error) {
	size, listed := img.Manifests.size(digest)
	img.mu.Lock()
	defer img.mu.Unlock()
	if !listed || img.blobs == nil {
		return nil, Unlisted(digest)
	}
	if open := img.blobs[digest]; open != nil {
		return open, nil
	}
	open, err := img.images.o.Store.Acquire(digest, size)
	if err == nil {
		img.blobs[digest] = open
	}
	return open, err
}

// lookEvery is how often a blob that another image fetches is looked at.
const lookEvery = 50 * time.Millisecond

// fetch returns when all blobs of a list are here, and the image's credentials have access
// to them.
func (img *Image) fetch(list []string) error {
	var all []*blobs.Blob
	for _, digest := range list {
		open, err := img.blob(digest)
		if err != nil {
			return err
		}
		all = append(all, open)
	}
	var waits wait
	for {
		if err := verify(img.ctx, all); err != nil {
			return err
		}
		if err := img.access.prove(img.ctx, all); err != nil {
			return err
		}
		mine, others := img.access.claim(all, img.shared != nil)
		if len(mine) > 0 {
			err := img.fetchOwn(mine)
			img.images.flights.end(mine, false)
			if err != nil {
				return err
			}
			continue
		}
		if len(others) == 0 {
			if img.access.has(all) {
				return nil
			}
			continue // another image has fetched some since prove looked
		}
		select {
		case <-others[0].done:
		case <-time.After(lookEvery): // a part of what another image fetches may be compared by now
			if err := waits.check(others[0], img.access.registry); err != nil {
				return err
			}
		case <-img.ctx.Done():
			return context.Cause(img.ctx)
		}
	}
}

// fetchOwn fetches blobs from the registry, or with the hosts that share the image.
func (img *Image) fetchOwn(mine []*blobs.Blob) error {
	if img.shared != nil {
		return img.fetchShared(mine)
	}
	var sinks []fetch.Sink
	for _, b := range mine {
		sinks = append(sinks, img.sink(b))
	}
	err := img.images.o.Fetcher.Fetch(img.ctx, img.toFetch(sinks))
	if img.images.o.Fetched != nil {
		img.images.o.Fetched(img.access.registry)
	}
	return err
}

func (img *Image) toFetch(sinks []fetch.Sink) fetch.Work {
	return fetch.Work{Repository: img.repository, Registry: img.access.registry, Sinks: sinks, Progress: img.count, CoolDown: img.request.Busy}
}

// count counts bytes that have come from the registry.
func (img *Image) count(n int) {
	img.images.o.FromRegistry.Add(float64(n))
	img.mu.Lock()
	defer img.mu.Unlock()
	img.fetched += int64(n)
}

// Unlisted returns why something is not served: it is of no image that is pulled.
func Unlisted(what string) error {
	return puller.Errorf(puller.ErrNotFound, "%s is of no image that is pulled", what)
}
