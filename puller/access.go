package puller

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
)

// access knows who has been seen to have access to images in their registries,
// and which images came with a caller's credentials. The first is in memory only:
// what is not known is asked of the registry, so whatever a restart forgets can
// only be asked once too often. The second is kept by the store, since an engine
// may show nothing of it. Its methods may be called from anywhere.
type access struct {
	verify bool // Options.VerifyAccess
	store  Store
	log    logrus.FieldLogger

	mu      sync.Mutex
	seen    map[grant]struct{}
	private map[string]struct{} // IDs of images
	unkept  map[string]struct{} // those of them that the store has not taken yet
	partial bool                // there may be more than those
}

// open takes up what the store has kept.
func (a *access) open(o Options) error {
	images, whole, err := o.Store.Private()
	if err != nil {
		return fmt.Errorf("load the images that came with credentials: %w", err)
	}
	a.verify, a.store, a.log, a.partial = o.VerifyAccess, o.Store, o.Log, !whole
	a.private, a.unkept = make(map[string]struct{}, len(images)), make(map[string]struct{})
	for _, id := range images {
		a.private[id] = struct{}{}
	}
	if a.verify && a.partial {
		a.log.Warn("not all images are known that came with callers' credentials: those without a digest of a registry are given only to callers whose registry lets them, also where they were built here")
	}
	return nil
}

// brought notes an image that came with a caller's credentials. It is noted also
// where nobody's access is verified: that may be turned on later.
func (a *access) brought(id string) {
	a.mu.Lock()
	if _, known := a.private[id]; known && len(a.unkept) == 0 {
		a.mu.Unlock()
		return
	}
	if _, known := a.private[id]; !known {
		if len(a.private) >= MaxPrivate {
			a.partial = true
		} else {
			a.private[id] = struct{}{}
		}
		a.unkept[id] = struct{}{}
	}
	unkept := slices.Collect(maps.Keys(a.unkept))
	a.mu.Unlock()
	for _, id := range unkept {
		if err := a.store.KeepPrivate(id); err != nil {
			a.log.WithError(err).WithField("image", id).Error("it could not be written down that an image came with credentials; it is tried again with the next such image, but a restart forgets it")
			return
		}
		a.mu.Lock()
		delete(a.unkept, id)
		a.mu.Unlock()
	}
}

// grant is that the registry has let somebody have what the engine has under a
// name: an image that comes to stand there later is another matter.
type grant struct {
	image    string // a reference in full form
	id       string
	identity [sha256.Size]byte
}

// maxGrants bounds what is known.
const maxGrants = 100_000

// grant notes that the registry has let whoever has the key's credentials have an
// image.
func (a *access) grant(key transferKey, id string) {
	if !a.verify {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil || len(a.seen) >= maxGrants {
		a.seen = make(map[grant]struct{})
	}
	a.seen[grant{key.image, id, key.identity}] = struct{}{}
}

// has reports whether an image that is there may be given to whoever has the
// key's credentials. What one without any may have, all may: they could ask
// without theirs. So may they have what has come from no registry. An image that
// shows no digest of a registry may still have come from one: a graph driver leaves
// the digest of an index with the platform that came first.
func (a *access) has(key transferKey, image Image) bool {
	if !a.verify {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, private := a.private[image.ID]; !private && !a.partial && len(image.RepoDigests) == 0 {
		return true
	}
	_, own := a.seen[grant{key.image, image.ID, key.identity}]
	_, anyone := a.seen[grant{image: key.image, id: image.ID}]
	return own || anyone
}

// verify asks the registry whether the transfer's credentials give access to an
// image that is there, if a job would be content with it. Where they do not,
// those jobs end with the error, which is returned if no others are left. begun
// says that it took an attempt.
func (t *transfer) verify(image Image) (given, begun bool, err error) {
	wants := false
	t.each(func(j *job) { wants = wants || !j.request.Policy.AsksRegistry() })
	if !wants {
		return false, false, nil
	}
	t.begin(false)
	if t.p.opts.Registry == nil {
		err = Errorf(ErrInternal, "%s: there is no registry to ask whether the caller has access", t.key.image)
	} else {
		_, err = t.head()
	}
	switch {
	case err == nil:
		t.p.access.grant(t.key, image.ID)
		return true, true, nil
	case KindOf(err).Retryable(), !t.keep(err, func(j *job) bool { return j.request.Policy.AsksRegistry() }):
		return false, true, err
	}
	return false, true, nil
}

// noteBrought notes what an attempt with a caller's credentials has brought, however
// it ended: the image may be there though the attempt failed.
func (t *transfer) noteBrought(before Image, failed error) {
	if t.key.identity == ([sha256.Size]byte{}) {
		return
	}
	// t.ctx may have ended, and the image is there all the same.
	found, err := t.p.engine.Inspect(t.p.ctx, EngineRef(t.key.image), t.key.platform)
	if err == nil && (failed == nil || found.ID != before.ID) {
		t.p.access.brought(found.ID)
	}
}
