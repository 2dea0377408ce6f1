package puller

import (
	"context"

	"github.com/towline/towline/stream"
)

// An Engine pulls images: dockerd, or what speaks its API. Its methods may be
// called from any number of goroutines. Every error they return is an *Error
// (or wraps one), Canceled or Timeout when it was ctx that ended the call.
type Engine interface {
	// Pull has the engine pull an image, and calls each for every message of
	// the stream, in order, from the calling goroutine. It returns nil only
	// after it has read the stream to its clean end and no message of it
	// reported a failure. That is no proof that the image is there.
	// When ctx is done, the engine's pull is aborted.
	Pull(ctx context.Context, pull Pull, each func(stream.Message)) error

	// Inspect returns the image that a reference in full form names, without
	// asking any registry. Where the engine keeps several platforms under one
	// name and platform is not "", it is that platform's image. The error is
	// NotFound where the engine has no such image.
	Inspect(ctx context.Context, image, platform string) (Image, error)

	// Stock returns what the engine keeps. An image that comes or goes
	// meanwhile may be in it or not.
	Stock(ctx context.Context) (Stock, error)

	// Info asks the engine what it is. It serves as the test that it answers.
	Info(ctx context.Context) (EngineInfo, error)
}

// Pull is what an engine is asked to pull.
type Pull struct {
	Image       string // a reference in full form
	Platform    string // os/arch[/variant], or "" for the engine's own
	Credentials Credentials
	// Connected, if not nil, is told which connection the call got, before the
	// first message.
	Connected func(Connection) `json:"-"`
}

// Image is an image in the engine's store.
type Image struct {
	// ID is the image's ID: the digest of its configuration, or in the
	// containerd image store that of its manifest or index.
	ID string
	// RepoDigests are the registry digests it is known under, as
	// "name@sha256:…" with the name as the engine shortens it.
	RepoDigests []string
	// Platform is os/arch[/variant].
	Platform string
	Size     int64 // in bytes, unpacked where the engine says so
	// DiffIDs are the digests of its layers' contents, lowest first.
	DiffIDs []string
}

// Stock is what an engine keeps.
type Stock struct {
	Images []Image // each once, however many names it has
	// Free is how many bytes there are for more, nil where that can't be known:
	// the engine does not tell, and its disk may be another machine's.
	Free *int64
}

// EngineInfo describes an engine, in the form of GET /v1/engine.
type EngineInfo struct {
	Name       string `json:"name,omitempty"`
	Version    string `json:"version,omitempty"`
	APIVersion string `json:"api_version,omitempty"` // the one negotiated
	// ImageStore is "containerd", or the name of the graph driver.
	ImageStore string `json:"image_store,omitempty"`
	// Platform is os/arch: what the engine pulls when it is asked for none.
	Platform  string `json:"platform,omitempty"`
	Reachable bool   `json:"reachable"`
}
