package puller

import (
	"crypto/sha256"
	"sync"
)

// access knows who has been seen to have access to images in their registries.
// It is in memory only: what is not known is asked of the registry, so whatever a
// restart forgets can only be asked once too often. Its methods may be called
// from anywhere.
type access struct {
	verify bool // Options.VerifyAccess

	mu   sync.Mutex
	seen map[grant]struct{}
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
// without theirs. So may they have what has come from no registry.
func (a *access) has(key transferKey, image Image) bool {
	if !a.verify || len(image.RepoDigests) == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
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
	t.each(func(j *job) { wants = wants || !j.request.Policy.asks() })
	if !wants {
		return false, false, nil
	}
	t.begin(false)
	if t.p.opts.Registry == nil {
		err = Errorf(Internal, "%s: there is no registry to ask whether the caller has access", t.key.image)
	} else {
		_, err = t.p.opts.Registry.Head(t.ctx, t.key.image, t.credentials)
	}
	switch {
	case err == nil:
		t.p.access.grant(t.key, image.ID)
		return true, true, nil
	case KindOf(err).Retryable(), !t.keep(err, func(j *job) bool { return j.request.Policy.asks() }):
		return false, true, err
	}
	return false, true, nil
}
