package prewarm

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/towline/towline/puller"
)

// layerSum adds up what the images of a plan have to fetch, one after the other.
//
// An engine does not fetch a layer that it has unpacked on the same layers
// below. Graph drivers keep layers by the chain of their contents up to them,
// and so do containerd's snapshotters, which are asked before anything is
// fetched (OCI image specification, "Layer ChainID"). Beside that, containerd
// keeps the blobs as they came, by digest. So it does not fetch a blob again that
// lies on other layers. Graph drivers delete blobs, and do fetch it again, unless it
// is in the same image.
type layerSum struct {
	blobs  bool            // the engine keeps them
	stored map[string]bool // chains on the engine
	chains map[string]bool // chains that images entered before bring
	bring  map[string]bool // the digests they fetch

	fetch, shared, present int64 // bytes in all
	fetched                []puller.Blob
}

func newLayerSum(images []puller.Image, blobs bool) *layerSum {
	l := &layerSum{blobs: blobs, stored: make(map[string]bool), chains: make(map[string]bool), bring: make(map[string]bool)}
	for _, i := range images {
		chain := ""
		for _, id := range i.DiffIDs {
			chain = chainID(chain, id)
			l.stored[chain] = true
		}
	}
	return l
}

// add adds an image.
func (l *layerSum) add(m puller.Manifest) puller.Weight {
	w := puller.Weight{Layers: len(m.Layers)}
	chain := ""
	if !l.blobs {
		clear(l.bring)
	}
	for i, layer := range m.Layers {
		chain = chainID(chain, m.DiffIDs[i])
		w.Size += layer.Size
		switch {
		case l.stored[chain]:
			w.LayersPresent++
			l.present += layer.Size
		case l.chains[chain], l.bring[layer.Digest]:
			w.LayersShared++
			l.shared += layer.Size
		default:
			w.Fetch += layer.Size
			l.fetched = append(l.fetched, layer)
			l.bring[layer.Digest] = true
		}
		l.chains[chain] = true
	}
	l.fetch += w.Fetch
	return w
}

// chainID returns the ID of a layer's chain from that of the chain below it.
func chainID(below, diffID string) string {
	if below == "" {
		return diffID
	}
	sum := sha256.Sum256([]byte(below + " " + diffID))
	return "sha256:" + hex.EncodeToString(sum[:])
}
