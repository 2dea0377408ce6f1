package puller

import "time"

// Storage is what an engine keeps.
type Storage struct {
	Images []Image // that are there whole, each once, however many names it has
	// Free is how many bytes there are for more, nil where that can't be known:
	// the engine does not tell, and its disk may be another machine's.
	Free *int64
}

// Disk is a file system. Both are in bytes. Free is what is left for those who are not root.
type Disk struct {
	Total int64 `json:"total"`
	Free  int64 `json:"free"`
}

// Used returns the share of the file system that is not free, from 0 to 1.
func (d Disk) Used() float64 {
	if d.Total <= 0 {
		return 0
	}
	return 1 - float64(min(max(d.Free, 0), d.Total))/float64(d.Total)
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

// EngineEventType is what an engine's event is about.
type EngineEventType string

// The types of events. EngineConnected is none of the engine's: it begins a stream.
const (
	EngineConnected EngineEventType = "connected"
	EngineImage     EngineEventType = "image"
	EngineContainer EngineEventType = "container"
)

// EngineEvent is something that happened to an image or a container.
type EngineEvent struct {
	Time time.Time // the engine's
	Type EngineEventType
	// Action is the engine's word: pull, tag, untag, delete, load or import of an image,
	// create, start, die or destroy of a container.
	Action string
	// ID is the container's, or the image's. Of a pull it is the image's name.
	ID string
	// Image is the image's name: as the engine shortens it, or as the container was
	// created with it, which can be an ID. "" where the engine does not tell.
	Image string
}
