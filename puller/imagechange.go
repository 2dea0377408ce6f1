package puller

import (
	"time"

	"github.com/towline/towline/stream"
)

// ImageAction is what has become of an image.
type ImageAction string

// The actions.
const (
	ImageRemoved  ImageAction = "removed"  // a collection removed it
	ImageMissing  ImageAction = "missing"  // it is in a set, and somebody else has removed it
	ImageRestored ImageAction = "restored" // it was missing, and a pull has brought it again
)

// ImageChange is what has become of an image of the engine, beside the jobs.
type ImageChange struct {
	Action ImageAction `json:"action"`
	ID     string      `json:"id,omitempty"`
	// Names are those that it had, NAME:TAG and NAME@DIGEST in full form: at most
	// MaxChangeNames of them.
	Names  []string `json:"names"`
	Digest string   `json:"digest,omitempty"` // in its registry, where it has one
	Size   int64    `json:"size,omitempty"`   // bytes, as the engine counts
	Freed  *int64   `json:"freed,omitempty"`  // bytes, of ImageRemoved, where it is known
	Why    string   `json:"why,omitempty"`    // of ImageRemoved: high, unused or admission
	Set    string   `json:"set,omitempty"`    // of the other actions
	Job    string   `json:"job,omitempty"`    // of ImageRestored: the pull
}

// MaxChangeNames is how many names of an image an event has.
const MaxChangeNames = 20

// ImageEvents are the events of images, where readers choose a kind of job.
const ImageEvents = "image"

// About says which image it is, for readers of all events.
func (c ImageChange) About() *stream.About {
	return &stream.About{Kind: ImageEvents, Names: c.Names}
}

// ImageEvent is of no job.
func ImageEvent(seq uint64, c ImageChange) Event {
	c.Names = append([]string{}, c.Names[:min(len(c.Names), MaxChangeNames)]...)
	return Event{Seq: seq, Time: time.Now().UTC(), Type: "image", Image: &c}
}
