package images

import (
	"context"
	"io"
	"time"

	"github.com/towline/towline/puller/mirror/blobs"
)

// Blob is a blob of an image that the engine reads while it arrives. The image gives it back.
type Blob struct {
	blob  *blobs.Blob
	image *Image
}

// Blob returns a blob that a manifest of the image lists, and has it fetched. It is an error
// where the fetch has failed: with the containerd image store, an engine whose blob was cut asks
// the mirror again, and goes on with the registry only where the mirror refuses it.
func (img *Image) Blob(digest string) (*Blob, error) {
	if img.ctx.Err() != nil {
		return nil, context.Cause(img.ctx)
	}
	b, err := img.blob(digest)
	if err != nil {
		return nil, err
	}
	img.Want(digest)
	return &Blob{b, img}, nil
}

// Size returns how many bytes the blob has as a whole.
func (b *Blob) Size() int64 { return b.blob.Size() }

// NewReader returns the bytes from an offset on. They end with an error when the image's
// fetch has failed.
func (b *Blob) NewReader(ctx context.Context, from int64) io.ReadCloser {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.image.ctx, func() { cancel(context.Cause(b.image.ctx)) })
	return &reader{blob: b.blob, image: b.image, ctx: ctx, from: from, end: func() { stop(); cancel(nil) }}
}

// reader gives nothing before the image's credentials have access. It counts how long the
// engine waits.
type reader struct {
	blob  *blobs.Blob
	image *Image
	ctx   context.Context
	from  int64
	end   func()
	in    io.ReadCloser // nil before the first Read
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	began := time.Now()
	defer func() { r.image.images.o.Waited.Add(time.Since(began).Seconds()) }()
	if r.in == nil {
		if err := r.image.access.await(r.ctx, r.blob); err != nil {
			return 0, err
		}
		r.in = r.blob.NewReader(r.ctx, r.from)
	}
	return r.in.Read(p)
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.end()
	if r.in == nil {
		return nil
	}
	return r.in.Close()
}
