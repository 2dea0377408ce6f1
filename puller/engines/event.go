package engines

import "time"

// EventType is what an engine's event is about.
type EventType string

// The types of events. EventConnected is none of the engine's: it begins a stream.
const (
	EventConnected EventType = "connected"
	EventImage     EventType = "image"
	EventContainer EventType = "container"
)

// Event is something that happened to an image or a container.
type Event struct {
	Time time.Time // the engine's
	Type EventType
	// Action is the engine's word: pull, tag, untag, delete, load or import of an image,
	// create, start, die or destroy of a container.
	Action string
	// ID is the container's, or the image's. Of a pull it is the image's name.
	ID string
	// Image is the image's name: as the engine shortens it, or as the container was
	// created with it, which can be an ID. "" where the engine does not tell.
	Image string
}
