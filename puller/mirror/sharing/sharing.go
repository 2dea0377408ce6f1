// Package sharing has the words between the accelerator, which keeps blobs, and the hosts
// that share images with this one.
package sharing

import (
	"context"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

// Image is an image that hosts share.
type Image struct {
	Repository string // in full form
	Digest     string // of the manifest or index by which the hosts name it
}

// Blob is a blob of an image.
type Blob struct {
	*blobs.Blob
	Manifest string // the digest of the image's manifest that lists it
}

// Source is this host's own access to the registry of an image. Its methods may be called
// from anywhere.
type Source interface {
	// Manifest asks the registry for a manifest by its digest.
	Manifest(ctx context.Context, digest string) (puller.RawManifest, error)
	// Fetch brings a range of a blob from the registry. It does not say whether the digest
	// of the blob is right.
	Fetch(ctx context.Context, b *blobs.Blob, r blobs.Range) error
}

// Progress is told how a fetch goes. Its functions may be called from anywhere, several at
// a time, and after the end of the fetch where others wait for the same. Both may be nil.
type Progress struct {
	Taken  func(n int)          // so many bytes of blobs have come from other hosts
	Notice func(message string) // for people: a host gave wrong bytes
}

// Peers are the hosts that share images with this one. Its methods may be called from
// anywhere.
type Peers interface {
	// Shares reports whether other hosts share an image with this one. It asks nobody.
	Shares(i Image) bool
	// Manifest returns a manifest of an image by its digest, from another host or else from
	// the source.
	Manifest(ctx context.Context, i Image, digest string, from Source) (puller.RawManifest, error)
	// Fetch returns when blobs of an image are whole. They come from other hosts, and what
	// this host is to bring for all, or none of the others can give, from the source. The
	// blobs must keep wrong bytes (blobs.Blob.KeepWrong).
	Fetch(ctx context.Context, i Image, all []Blob, from Source, p Progress) error
}

// Host is what this host has for others.
type Host interface {
	// Open returns an image, which the caller knows to be one that hosts share. It may ask
	// the registry, but not for content.
	Open(ctx context.Context, i Image) (Held, error)
}

// Held is an image that this host can give to others, with this host's own access. It may
// end at any time: its methods return errors then.
type Held interface {
	Source
	// Read returns the manifest of the image, or one that its index lists. It may have to
	// be fetched first, from other hosts or the registry. It is ErrNotFound for others.
	Read(ctx context.Context, digest string) (puller.RawManifest, error)
	// Use returns a blob that a manifest of the image lists, and keeps other pulls of this
	// host from fetching it until release is called. It is ErrNotFound for blobs that the
	// manifest does not list, ErrDenied where this host's access to bytes that are here was
	// not shown, and ErrOverloaded where another pull fetches it now.
	Use(ctx context.Context, manifest, digest string) (b *blobs.Blob, release func(), err error)
}
