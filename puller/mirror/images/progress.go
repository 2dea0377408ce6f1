package images

import "github.com/towline/towline/puller"

// Layer is how much of a layer is here.
type Layer struct {
	puller.Blob
	Have int64 // bytes
}

// Progress returns how much is here of each layer that the engine lacks, from the base up.
func (img *Image) Progress() (all []Layer) {
	layers := img.Manifests.layers()
	img.mu.Lock()
	defer img.mu.Unlock()
	for _, b := range layers {
		if !img.wanted[b.Digest] {
			continue
		}
		l := Layer{Blob: b}
		if open := img.blobs[b.Digest]; open != nil {
			l.Have = open.Have()
		}
		all = append(all, l)
	}
	return all
}

// Here reports whether the engine has said of each layer that it lacks it or has it, and
// all that it lacks are here.
func (img *Image) Here() bool {
	layers := img.Manifests.layers()
	img.mu.Lock()
	defer img.mu.Unlock()
	for _, b := range layers {
		open := img.blobs[b.Digest]
		if !img.present[b.Digest] && (!img.wanted[b.Digest] || open == nil || !open.Whole()) {
			return false
		}
	}
	return len(layers) > 0
}

// TakeNotices returns what readers were not told yet.
func (img *Image) TakeNotices() []string {
	img.mu.Lock()
	defer img.mu.Unlock()
	all := img.notices
	img.notices = nil
	return all
}

// Sources returns how many bytes of what the engine lacks came from where.
func (img *Image) Sources() (registry, peers, cache int64) {
	img.mu.Lock()
	defer img.mu.Unlock()
	for digest := range img.wanted {
		if b := img.blobs[digest]; b != nil {
			cache += b.Have()
		}
	}
	return img.fetched, img.taken, max(0, cache-img.fetched-img.taken)
}
