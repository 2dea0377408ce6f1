package puller

import (
	"context"
	"errors"
	"io"
)

var (
	// ErrNoRanges is why a part of a blob was not read: the registry, or the storage that
	// it redirects to, did not answer with exactly this part. The whole blob may be read.
	ErrNoRanges = errors.New("it does not serve parts of a blob")
	// ErrBusy is in the error where a registry answers 429 or 503: it asks for fewer
	// requests. The RetryAfter of the Error says for how long, 0 where it is not known.
	ErrBusy = errors.New("it asks for fewer requests")
)

// A Repository reads the content of one image's repository with one caller's credentials.
// Its methods may be called from anywhere. Every error they return is an *Error, and has
// neither credentials nor a signed URL in it. It is for as long as one image is fetched:
// it keeps tokens and the places of blobs.
type Repository interface {
	// Manifest returns the manifest that a tag or digest names. A digest is compared
	// with the content. Where that differs, and where the content is no manifest that
	// engines accept, the error is ErrCorrupt or ErrInvalidRequest. The GET counts against
	// a rate limit.
	Manifest(ctx context.Context, reference string) (RawManifest, error)
	// Blob asks for a part of a blob of size bytes: those from offset from up to, but
	// without, offset to. The body has exactly these bytes, or, where Whole says so,
	// the whole blob: then the registry has sent all of it, though a part was asked for.
	// Nothing is compared with the digest. The error wraps ErrNoRanges where the
	// registry can't send this part, and ErrBusy where it answers 429 or 503.
	//
	// A body that is cut ends with an error that is io.ErrUnexpectedEOF. ctx is for the
	// body too: only its end bounds how long a read may take.
	Blob(ctx context.Context, digest string, from, to, size int64) (BlobBody, error)
	// Referrers returns the index of what refers to a digest (OCI distribution
	// specification, "Listing Referrers"). It is ErrNotFound where the registry has none
	// or does not know of referrers.
	Referrers(ctx context.Context, digest string) (RawManifest, error)
}

// RawManifest is a manifest or an index as its registry has it.
type RawManifest struct {
	Body      []byte // 4 MiB at most
	MediaType string // as the registry calls it, without parameters
	Digest    string // of Body
}

// BlobBody is a blob or a part of it. It must be closed.
type BlobBody struct {
	io.ReadCloser
	Whole bool // the body is the whole blob
}
