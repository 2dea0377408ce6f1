package puller

import (
	"context"
	"time"

	"github.com/towline/towline/stream/pullstream"
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
	Pull(ctx context.Context, pull Pull, each func(pullstream.Message)) error

	// Inspect returns the image that a reference in full form or an ID names,
	// without asking any registry. Where the engine keeps several platforms under one
	// name, it is that platform's image, "" for the engine's own; where that platform's
	// is not there, it is one whose Content is not ContentWhole. The error is ErrNotFound
	// where the engine has no such image.
	Inspect(ctx context.Context, image, platform string) (Image, error)

	// Storage returns what the engine keeps. An image that comes or goes
	// meanwhile may be in it or not.
	Storage(ctx context.Context) (Storage, error)

	// Info asks the engine what it is. It serves as the test that it answers.
	Info(ctx context.Context) (EngineInfo, error)

	// Create makes a container and returns its ID and what the engine warns of.
	// It is locked down as Container says. The error is ErrNotFound where the
	// image is not there, ErrConflict where another container has the name, and
	// ErrInvalidRequest, in the engine's own words, where the engine does not take
	// what is asked for.
	Create(ctx context.Context, c Container) (id string, warnings []string, err error)

	// Check looks whether a container is of the image that it was to be created of.
	// The error is ErrCorrupt where it is of another one, or the engine does not say.
	CheckContainer(ctx context.Context, id string, c Container) error

	// Run starts a container that was created, and returns when it has exited
	// and each has been called, from the calling goroutine or another but one
	// at a time, for all that it printed: nothing is lost, however soon it
	// exits. started is called once it runs. p is each's only during the call.
	// When ctx ends, Run returns; the container runs on. The error is
	// ErrInvalidRequest, in the engine's own words, where it can't be started.
	Run(ctx context.Context, id string, tty bool, started func(), each func(s Output, p []byte)) (Exit, error)

	// Follow is Run for a container that was started before, also for one that
	// has exited: each is called for all that the engine still has of what it
	// printed, from the first byte.
	Follow(ctx context.Context, id string, tty bool, each func(s Output, p []byte)) (Exit, error)

	// ContainerEvents tells whether the engine was there when a container was started, and
	// when it exited: one that is restarted ends what runs, and that can look as if
	// the program had ended by itself. It is asked for one that has exited.
	ContainerEvents(ctx context.Context, id string) (ContainerEvents, error)

	// Stop has a container end: SIGTERM, and SIGKILL after grace. It returns
	// when it has exited. It is no error if it had, or is not there.
	Stop(ctx context.Context, id string, grace time.Duration) error

	// Remove removes a container, by force, with its volumes. It is no error if
	// it is not there.
	Remove(ctx context.Context, id string) error

	// Containers returns those that carry a label, whatever they do. An image
	// may have the label too, and then its containers have it: that says nothing
	// of where they come from.
	Containers(ctx context.Context, label, value string) ([]ContainerState, error)

	// AllContainers returns every container, also those that were never started.
	AllContainers(ctx context.Context) ([]ContainerState, error)

	// Ran returns when a container was last known to run: now if it runs, its exit if it
	// has exited, and the zero time if it was never started. The error is ErrNotFound
	// where the engine has no such container.
	Ran(ctx context.Context, id string) (time.Time, error)

	// Images returns the images that the engine lists, each once, without the
	// intermediate images of older builders. shared asks for what the images share
	// with each other, which can take the engine seconds.
	Images(ctx context.Context, shared bool) ([]ImageSummary, error)

	// RemoveImage removes one name of an image, NAME:TAG or NAME@DIGEST in full form,
	// and with its last name the image. It forces nothing. An image without names is
	// removed by its ID. The error is ErrNotFound where there is no such name or
	// image, and ErrConflict where a container, stopped or not, or another image needs it,
	// or where the image under an ID has a name.
	RemoveImage(ctx context.Context, reference string) error

	// Disk returns the file system that the engine keeps its images on, nil where that
	// can't be known: it may be another machine's.
	Disk(ctx context.Context) (*Disk, error)

	// Events calls each, from the calling goroutine, for what happens to images and
	// containers, until ctx ends or the engine ends the stream. It never returns nil.
	// The first event is EngineConnected: what happens after that is told. Where since
	// is not zero, what has happened since then follows, as far as the engine knows it.
	Events(ctx context.Context, since time.Time, each func(EngineEvent)) error
}

// Container is what an engine is asked to create. There is no way to ask for
// privileges, host namespaces, devices, mounts or capabilities: a container
// has no capabilities and gets none (no-new-privileges), and what it prints is
// kept by the engine up to a limit, in a form that keeps every byte.
type Container struct {
	Name  string // no other container of the engine may have it
	Image string // an ID, so that no tag that moves can change what runs
	// Manifest is Image.Manifest. Where it is not "", the container is of that one.
	Manifest   string
	Platform   string // os/arch[/variant], or "" for the engine's own
	Cmd        []string
	Entrypoint []string // nil for the image's
	Env        []string // NAME=value
	Workdir    string
	User       string
	TTY        bool
	Network    string // "none" or "bridge"
	Memory     int64  // bytes, swap included; 0 for no limit
	NanoCPUs   int64  // billionths of a CPU; 0 for no limit
	Pids       int64  // processes and threads
	Labels     map[string]string
}

// Output is which of its streams a container printed to. With a TTY there is
// only Stdout.
type Output string

// The streams of a container.
const (
	Stdout Output = "stdout"
	Stderr Output = "stderr"
)

// Exit is how a container has ended.
type Exit struct {
	Code      int  `json:"code"`                 // 128 and the signal's number where a signal ended it
	OOMKilled bool `json:"oom_killed,omitempty"` // the kernel ended it for want of memory
	// Error is what the engine says went wrong beside it, "" for nothing.
	Error string `json:"error,omitempty"`
	// Interrupted is set by the Puller: the engine went away before the exit, so
	// that it may not be the program's own.
	Interrupted bool `json:"interrupted,omitempty"`
}

// ContainerEvents is what an engine has seen of a container itself, since it was started
// last. Sure says that it has not seen what is missing: else it may have forgotten.
type ContainerEvents struct{ Start, Exit, Complete bool }

// ContainerState is a container that the engine has.
type ContainerState struct {
	ID    string
	Names []string // images have none, so only a caller of the engine gives them
	// Image is the name or ID that the image was asked for by.
	Image string
	// Created is when it was created; zero where the engine does not tell.
	Created time.Time
	Labels  map[string]string
	// ImageID is the ID of the image that it was made from.
	ImageID string
	// Started says that it was started: it runs or has exited. Running says that it
	// has not exited.
	Started, Running bool
}

// Pull is what an engine is asked to pull.
type Pull struct {
	Image       string // a reference in full form
	Platform    string // os/arch[/variant], or "" for the engine's own
	Credentials Credentials
	// Connected, if not nil, is told which connection the call got, before the
	// first message.
	Connected func(Connection) `json:"-"`
	// Busy, if not nil, is told by an Accelerator that the registry asks for fewer
	// requests, and for how long it makes none. It may be called from any goroutine.
	Busy func(d time.Duration) `json:"-"`
}

// Image is an image in the engine's store.
type Image struct {
	// ID is the image's ID: the digest of its configuration, or in the
	// containerd image store that of its manifest, or of the index that it is in.
	ID string
	// Manifest is the digest of the platform's own manifest, where the store tells
	// it: the containerd image store does.
	Manifest string
	// Content says whether all of the platform's content is there.
	Content Content
	// RepoTags are the names it has, as "name:tag" with the name as the engine
	// shortens it.
	RepoTags []string
	// RepoDigests are the registry digests it is known under, as
	// "name@sha256:…" with the name as the engine shortens it.
	RepoDigests []string
	// Platform is os/arch[/variant]; what the engine does not tell is missing.
	Platform  string
	OSVersion string // of images for Windows
	Size      int64  // in bytes, unpacked where the engine says so
	// DiffIDs are the digests of its layers' contents, lowest first.
	DiffIDs []string
}

// Content is how much of an image's content a store says that it has. Graph drivers
// keep no image before they have all of it. The containerd image store does, and tells
// from API 1.48 on.
type Content int

// How much of an image is there.
const (
	// ContentUnknown is of a store that may have an image without its layers, and
	// may show another platform of the image than the one that was asked for.
	ContentUnknown Content = iota
	ContentPartial         // some or all of it is not there
	ContentWhole
)

// StoreContainerd is the image store that keeps several platforms under one name.
const StoreContainerd = "containerd"

// EngineInfo describes an engine, in the form of GET /v1/engine.
type EngineInfo struct {
	Name       string `json:"name,omitempty"`
	Version    string `json:"version,omitempty"`
	APIVersion string `json:"api_version,omitempty"` // the one negotiated
	// ImageStore is StoreContainerd, or the name of the graph driver.
	ImageStore string `json:"image_store,omitempty"`
	// Platform is os/arch: what the engine pulls when it is asked for none.
	Platform string `json:"platform,omitempty"`
	// OSVersion is the build of Windows that the engine runs on.
	OSVersion string `json:"os_version,omitempty"`
	Reachable bool   `json:"reachable"`
	// Disk is nil where it is not known.
	Disk *Disk `json:"disk,omitempty"`
	// Accelerator is how pulls of this engine are accelerated. The Service fills it in.
	Accelerator *AcceleratorState `json:"accelerator,omitempty"`
}
