package puller

import (
	"context"
	"errors"
)

// ErrCounts is why a query that may cost nothing was not answered
// (ManifestQuery.Free).
var ErrCounts = errors.New("reading its manifest would count against the registry's rate limit")

// A Registry answers what an engine can't be asked. Its methods may be called
// from anywhere. Every error they return is an *Error. It is ErrRateLimited where
// the registry refuses for now, with its RetryAfter if it said so.
type Registry interface {
	// Head returns the digest that a reference in full form has in its registry
	// now. At Docker Hub it does not count as a pull.
	Head(ctx context.Context, image string, c Credentials) (digest string, err error)

	// Credentials returns what Towline itself has for an image's registry, none
	// where it has none. Head and Manifest, where they are given none, use those.
	// No error has any of it in its words.
	Credentials(ctx context.Context, image string) (Credentials, error)

	// Manifest returns what an image is made of. It always asks the registry,
	// with the query's credentials, which digest the reference has now; what it
	// knows of that digest it may know from an earlier call. The error is
	// ErrPlatformMismatch where an index has no image for the platform,
	// ErrInvalidRequest where there is something that is no image, and ErrCorrupt
	// where there is something that can't be one.
	Manifest(ctx context.Context, q ManifestQuery) (Manifest, error)

	// Repository returns what reads the repository of an image in full form. It does
	// not ask the registry. It uses the credentials that it is given, and no others: what
	// is shown to none may be given to everybody. The error is
	// ErrInvalidRequest where the image or the credentials can't be read.
	Repository(ctx context.Context, image string, c Credentials) (Repository, error)
}

// ManifestQuery is what a registry is asked for.
type ManifestQuery struct {
	Image string // a reference in full form
	// Platform, os/arch[/variant], chooses from an index, as an engine for that
	// platform does. An image that is in no index comes as it is.
	Platform string
	// OSVersion chooses among an index's images for one platform, "" the first of
	// them: images for Windows are made for one version of it each.
	OSVersion   string
	Credentials Credentials
	// Free asks only for what costs nothing: where reading the manifest would
	// count against a rate limit, the error is ErrRateLimited and wraps ErrCounts.
	Free bool
}

// Manifest is what an image is made of.
type Manifest struct {
	// Digest is what the reference names: that of the index, if it is one.
	Digest string
	// Image is the digest of the platform's own manifest, and Config that of its
	// configuration. An engine calls the image by one of the two.
	Image, Config string
	// Platform is os/arch[/variant], as the image's configuration has it, with the
	// variant that its index names where the configuration has none. "" where the
	// configuration has none at all.
	Platform string
	Layers   []Blob // lowest first
	// Unnamed says that it was chosen from an index that does not say for which
	// platform it is: some engines do not take such an image.
	Unnamed bool
	// Zstd says that a layer is compressed with zstd, which old engines can't read.
	Zstd bool
	// DiffIDs are the digests of the layers' contents, unpacked: one for each
	// (OCI image specification, "Layer DiffID").
	DiffIDs []string
}

// Blob is something that a registry keeps.
type Blob struct {
	Digest string
	// Size is in bytes as they are transferred. The sizes of an image's layers
	// are not negative, and add up to no more than 1 PiB.
	Size int64
}
