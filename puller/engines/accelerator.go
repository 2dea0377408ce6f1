package engines

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// An Accelerator fetches what an engine is to pull with more connections than the
// engine uses, and lets the engine pull it from this machine. Its methods may be
// called from anywhere.
type Accelerator interface {
	// Accelerate decides how a pull is made. It may ask the registry. It never fails:
	// where it can't help, the Acceleration is of WayNone.
	Accelerate(ctx context.Context, p puller.Pull) Acceleration
	// State says how this engine's pulls are accelerated. It does not wait.
	State() puller.AcceleratorState
	// Cached returns which of some blobs are in the cache whole.
	Cached(blobs []puller.Blob) []puller.Blob
	// CoolDown has no more requests for blobs made to a registry for some time, at most
	// half a minute: it limits the rate. Those that are under way go on.
	CoolDown(registry string, d time.Duration)
}

// An Acceleration is one pull's part in an Accelerator. Close must be called once.
type Acceleration interface {
	// Pull is Engine.Pull for the Pull that was accelerated. Its messages show the
	// bytes that come from the network. Where Towline can't bring the image, the
	// engine pulls it by itself, and a message without an ID says so. The
	// messages that tell how the stream ended are of the engine's pull of the image's
	// own name.
	Pull(ctx context.Context, each func(pullstream.Message)) error
	// Accelerated returns how it went so far.
	Accelerated() puller.Accelerated
	// Close ends it, after the image was proven or the pull failed. It removes the
	// temporary name.
	Close()
}
