package puller

import (
	"context"
	"time"

	"github.com/towline/towline/stream/pullstream"
)

// Way is how an engine gets an image that Towline fetches for it.
type Way string

// The ways.
const (
	WayMirror Way = "mirror" // the engine knows Towline's endpoint as a mirror of the registry
	WayAlias  Way = "alias"  // the engine pulls under a temporary name first
	WayNone   Way = "none"   // the engine fetches by itself
)

// Accelerate says whether a pull may be accelerated.
type Accelerate string

// What a request may say of it. AccelerateAuto is the default.
const (
	AccelerateAuto Accelerate = "auto"
	AccelerateOff  Accelerate = "off"
)

// Accelerated is where the bytes of a pull came from, as a result tells it. Of a pull
// that Way is WayNone of, Towline does not know.
type Accelerated struct {
	Way    Way    `json:"way"`
	Reason string `json:"reason,omitempty"` // why it is this way
	// FromRegistry, FromCache and FromPeers are bytes of layers and configuration,
	// compressed.
	FromRegistry int64 `json:"from_registry"`
	FromCache    int64 `json:"from_cache"`
	FromPeers    int64 `json:"from_peers"`
}

// AcceleratorState is what GET /v1/engine tells of the accelerator.
type AcceleratorState struct {
	Way    Way    `json:"way"`
	Reason string `json:"reason,omitempty"`
	// Connections is how many fetch from registries now, of at most MaxConnections.
	Connections    int `json:"connections"`
	MaxConnections int `json:"max_connections"`
	// CacheBytes is how much the cache has on disk, of at most MaxCacheBytes.
	CacheBytes    int64 `json:"cache_bytes"`
	MaxCacheBytes int64 `json:"max_cache_bytes"`
}

// An Accelerator fetches what an engine is to pull with more connections than the
// engine uses, and lets the engine pull it from this machine. Its methods may be
// called from anywhere.
type Accelerator interface {
	// Accelerate decides how a pull is made. It may ask the registry. It never fails:
	// where it can't help, the Acceleration is of WayNone.
	Accelerate(ctx context.Context, p Pull) Acceleration
	// State says how this engine's pulls are accelerated. It does not wait.
	State() AcceleratorState
	// Cached returns which of some blobs are in the cache whole.
	Cached(blobs []Blob) []Blob
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
	Accelerated() Accelerated
	// Close ends it, after the image was proven or the pull failed. It removes the
	// temporary name.
	Close()
}
