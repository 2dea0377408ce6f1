package engines

import (
	"time"

	"github.com/towline/towline/puller"
)

// Storage is what an engine keeps.
type Storage struct {
	Images []puller.Image // that are there whole, each once, however many names it has
	// Free is how many bytes there are for more, nil where that can't be known:
	// the engine does not tell, and its disk may be another machine's.
	Free *int64
}

// ImageSummary is an image as an engine's list has it.
type ImageSummary struct {
	ID string
	// Tags are its names, NAME:TAG, and Digests its NAME@DIGEST, in full form. What is no
	// reference stays as the engine wrote it. An image without both is dangling.
	Tags, Digests []string
	Created       time.Time // by its builder
	// Size is in bytes. The containerd image store counts the compressed content and the
	// unpacked one, of all platforms that are there.
	Size int64
	// Unique is how many bytes would go with the image, as far as the engine tells: not
	// those of layers that other images have too. nil where that was not asked for or
	// the engine does not tell. In the containerd image store it is an estimate: the
	// share of the compressed content follows that of the unpacked one.
	Unique *int64
	// Parent says that the engine has images that were built from it here. It does not
	// remove it before those.
	Parent bool
}
