package puller

import "sync"

// proofCache knows what images were proven to be, where the engine does not show
// it: which digest a repository has an image under, and for which platforms. An
// image of one ID never becomes another one, so this stays true. Its methods may be
// called from anywhere.
type proofCache struct {
	mu    sync.Mutex
	known map[proof]string // the digest
}

// proof is that an image was proven to be what a repository has for a platform.
type proof struct{ id, repository, platform string }

// maxProofs bounds what is known. What is forgotten is proven anew.
const maxProofs = 20_000

// put notes that an image is what is wanted, and its digest in the registry.
func (c *proofCache) put(id string, w wanted, digest string) {
	repository := ParseName(w.image).Repository
	if id == "" || repository == "" || digest == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxProofs {
		c.known = make(map[proof]string)
	}
	c.known[proof{id, repository, ""}] = digest
	if w.platform != "" {
		c.known[proof{id, repository, w.platform}] = digest
	}
}

// learn takes in what a job proved before a restart.
func (c *proofCache) learn(j Job) {
	if r := j.Result; j.State == StateSucceeded && r != nil {
		c.put(r.ImageID, wanted{j.Image, j.Platform}, r.Digest)
	}
}

// get returns the digest that an image was last proven to have in the repository,
// "" for none, and whether it was proven to be for the platform.
func (c *proofCache) get(id string, w wanted) (digest string, platform bool) {
	repository := ParseName(w.image).Repository
	c.mu.Lock()
	defer c.mu.Unlock()
	_, platform = c.known[proof{id, repository, w.platform}]
	return c.known[proof{id, repository, ""}], platform
}
