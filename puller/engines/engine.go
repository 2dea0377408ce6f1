// Package engines has the words of what Towline asks of an engine and is told by one, and
// the interfaces of what pulls go through: Engine, Accelerator and Admission. The words
// that jobs have too, such as Image, are in package puller.
package engines

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// An Engine pulls images: dockerd, or what speaks its API. Its methods may be
// called from any number of goroutines. Every error they return is an *puller.Error
// (or wraps one), Canceled or Timeout when it was ctx that ended the call.
type Engine interface {
	// Pull has the engine pull an image, and calls each for every message of
	// the stream, in order, from the calling goroutine. It returns nil only
	// after it has read the stream to its clean end and no message of it
	// reported a failure. That is no proof that the image is there.
	// When ctx is done, the engine's pull is aborted.
	Pull(ctx context.Context, pull puller.Pull, each func(pullstream.Message)) error

	// Inspect returns the image that a reference in full form or an ID names,
	// without asking any registry. Where the engine keeps several platforms under one
	// name, it is that platform's image, "" for the engine's own; where that platform's
	// is not there, it is one whose Content is not puller.ContentWhole. The error is ErrNotFound
	// where the engine has no such image.
	Inspect(ctx context.Context, image, platform string) (puller.Image, error)

	// Storage returns what the engine keeps. An image that comes or goes
	// meanwhile may be in it or not.
	Storage(ctx context.Context) (Storage, error)

	// Info asks the engine what it is. It serves as the test that it answers.
	Info(ctx context.Context) (puller.EngineInfo, error)

	// Create makes a container and returns its ID and what the engine warns of.
	// It is locked down as Container says. The error is ErrNotFound where the
	// image is not there, ErrConflict where another container has the name, and
	// ErrInvalidRequest, in the engine's own words, where the engine does not take
	// what is asked for.
	Create(ctx context.Context, c Container) (id string, warnings []string, err error)

	// CheckContainer looks whether a container is of the image that it was to be created of.
	// The error is ErrCorrupt where it is of another one, or the engine does not say.
	CheckContainer(ctx context.Context, id string, c Container) error

	// Run starts a container that was created, and returns when it has exited
	// and each has been called, from the calling goroutine or another but one
	// at a time, for all that it printed: nothing is lost, however soon it
	// exits. started is called once it runs. p is each's only during the call.
	// When ctx ends, Run returns; the container runs on. The error is
	// ErrInvalidRequest, in the engine's own words, where it can't be started.
	Run(ctx context.Context, id string, tty bool, started func(), each func(s puller.Output, p []byte)) (Exit, error)

	// Follow is Run for a container that was started before, also for one that
	// has exited: each is called for all that the engine still has of what it
	// printed, from the first byte.
	Follow(ctx context.Context, id string, tty bool, each func(s puller.Output, p []byte)) (Exit, error)

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
	Disk(ctx context.Context) (*puller.Disk, error)

	// Events calls each, from the calling goroutine, for what happens to images and
	// containers, until ctx ends or the engine ends the stream. It never returns nil.
	// The first event is EventConnected: what happens after that is told. Where since
	// is not zero, what has happened since then follows, as far as the engine knows it.
	Events(ctx context.Context, since time.Time, each func(Event)) error
}
