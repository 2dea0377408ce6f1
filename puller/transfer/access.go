package transfer

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/store"
)

// access knows which credentials have access to which images in their registries, and
// which images came with a caller's credentials. The first is in memory only: what is
// not known is asked of the registry, so what a restart forgets is only asked once
// too often. The second is kept by the store, since an engine may show nothing of
// it. Its methods may be called from anywhere.
type access struct {
	verify bool // Options.VerifyAccess
	store  store.Store
	log    logrus.FieldLogger
	seen   *lru.Cache[grant, struct{}]

	mu      sync.Mutex
	private map[string]struct{} // IDs of images
	unsaved map[string]struct{} // those of them that the store has not taken yet
	partial bool                // there may be more than those
}

// grant says that the registry allowed an image to some credentials. It is for the image
// that the engine had under the name then, not for a later one.
type grant struct {
	image    string // a reference in full form
	id       string
	identity [sha256.Size]byte
}

// maxGrants bounds what is remembered.
const maxGrants = 100_000

// newAccess takes up what the store has kept.
func newAccess(o Options) (*access, error) {
	images, whole, err := o.Store.Private()
	if err != nil {
		return nil, fmt.Errorf("load the images that came with credentials: %w", err)
	}
	seen, err := lru.New[grant, struct{}](maxGrants)
	if err != nil {
		return nil, err
	}
	a := &access{
		verify: o.VerifyAccess, store: o.Store, log: o.Log, seen: seen,
		private: make(map[string]struct{}, len(images)), unsaved: make(map[string]struct{}), partial: !whole,
	}
	for _, id := range images {
		a.private[id] = struct{}{}
	}
	if a.verify && a.partial {
		a.log.Warn("not all images are known that came with callers' credentials: those without a digest of a registry are given only to callers whose registry lets them, also where they were built here")
	}
	return a, nil
}

// brought notes an image that came with a caller's credentials. It is noted also where
// nobody's access is verified: that may be turned on later.
func (a *access) brought(id string) {
	a.mu.Lock()
	if _, known := a.private[id]; known && len(a.unsaved) == 0 {
		a.mu.Unlock()
		return
	} else if !known {
		if len(a.private) >= store.MaxPrivate {
			a.partial = true
		} else {
			a.private[id] = struct{}{}
		}
		a.unsaved[id] = struct{}{}
	}
	unsaved := slices.Collect(maps.Keys(a.unsaved))
	a.mu.Unlock()
	for _, id := range unsaved {
		if err := a.store.KeepPrivate(id); err != nil {
			a.log.WithError(err).WithField("image", id).Error("it could not be saved that an image came with credentials; it is tried again with the next such image, but a restart forgets it")
			return
		}
		a.mu.Lock()
		delete(a.unsaved, id)
		a.mu.Unlock()
	}
}

// grant notes that the registry gives an image to callers with the key's credentials.
func (a *access) grant(key Key, id string) {
	if a.verify {
		a.seen.Add(grant{key.Image, id, key.Identity}, struct{}{})
	}
}

// has reports whether an image that is there may be given to callers with the key's
// credentials. An image that the registry gives without credentials may be given to
// all: they could ask without theirs. So may an image that has come from no registry.
// An image that shows no digest of a registry may still have come from one: a graph
// driver leaves the digest of an index with the platform that came first.
func (a *access) has(key Key, image puller.Image) bool {
	if !a.verify {
		return true
	}
	a.mu.Lock()
	_, private := a.private[image.ID]
	partial := a.partial
	a.mu.Unlock()
	if !private && !partial && len(image.RepoDigests) == 0 {
		return true
	}
	_, own := a.seen.Get(grant{key.Image, image.ID, key.Identity})
	_, anyone := a.seen.Get(grant{image: key.Image, id: image.ID})
	return own || anyone
}

// verifyAccess asks the registry whether the transfer's credentials give access to an
// image that is there, if a member would be content with it. Where they do not, those
// members end with the error, which is returned if no others are left. begun says
// that it took an attempt.
func (a *attempt) verifyAccess(image puller.Image) (given, begun bool, err error) {
	if !a.any(func(m *Member) bool { return !m.request.Policy.AsksRegistry() }) {
		return false, false, nil
	}
	a.begin(false)
	if a.table.opts.Registry == nil {
		err = puller.Errorf(puller.ErrInternal, "%s: there is no registry to ask whether the caller has access", a.key.Image)
	} else {
		_, err = a.head()
	}
	switch {
	case err == nil:
		a.table.access.grant(a.key, image.ID)
		return true, true, nil
	case puller.KindOf(err).Retryable(), !a.end(puller.Result{}, err, func(m *Member) bool { return m.request.Policy.AsksRegistry() }):
		return false, true, err
	}
	return false, true, nil
}

// noteBrought notes what an attempt with a caller's credentials has brought, however
// it ended: the image may be there though the attempt failed.
func (a *attempt) noteBrought(before puller.Image, failed error) {
	if a.key.Identity == ([sha256.Size]byte{}) {
		return
	}
	// a.ctx may have ended, and the image is there all the same.
	found, err := a.table.opts.Engine.Inspect(a.table.ctx, names.EngineRef(a.key.Image), a.key.Platform)
	if err == nil && (failed == nil || found.ID != before.ID) {
		a.table.access.brought(found.ID)
	}
}
