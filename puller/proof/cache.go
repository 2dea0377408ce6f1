package proof

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/towline/towline/puller/names"
)

// proofs remembers what images were proven to be, where the engine does not show
// it: which digest a repository has an image under, and for which platforms. An
// image of one ID never becomes another one, so this stays true.
type proofs struct{ digests *lru.Cache[proof, string] }

// proof is that an image was proven to be what a repository has for a platform.
type proof struct{ id, repository, platform string }

// maxProofs bounds what is remembered. What is forgotten is proven anew.
const maxProofs = 20_000

func newProofs() *proofs {
	c, err := lru.New[proof, string](maxProofs)
	if err != nil {
		panic("proof: " + err.Error()) // the size is above 0
	}
	return &proofs{c}
}

// put notes that an image is what is wanted, and its digest in the registry.
func (p *proofs) put(id string, w Wanted, digest string) {
	repository := names.ParseName(w.Image).Repository
	if id == "" || repository == "" || digest == "" {
		return
	}
	p.digests.Add(proof{id, repository, ""}, digest)
	if w.Platform != "" {
		p.digests.Add(proof{id, repository, w.Platform}, digest)
	}
}

// get returns the digest that an image was last proven to have in the repository,
// "" for none, and whether it was proven to be for the platform.
func (p *proofs) get(id string, w Wanted) (digest string, platform bool) {
	repository := names.ParseName(w.Image).Repository
	platform = p.digests.Contains(proof{id, repository, w.Platform})
	digest, _ = p.digests.Get(proof{id, repository, ""})
	return digest, platform
}
