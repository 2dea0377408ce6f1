package blobs

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/towline/towline/puller"
)

// reader reads a blob that may still arrive. It is a use of the blob.
type reader struct {
	blob     *Blob
	ctx      context.Context
	cancel   context.CancelCauseFunc
	from, at int64
	release  func()   // once
	content  *content // the blob's lock guards it
}

var errReaderClosed = errors.New("the reader is closed")

// NewReader returns a reader of the bytes from an offset on. Its Read waits for bytes
// that are missing. It gives the last 64 KiB only after the digest was checked, and
// all of a blob from an earlier start only after that too. It ends with
// ErrCorrupt where the bytes were found wrong, or with the error of the context. A reader
// that has given nothing yet starts with the new bytes instead of ErrCorrupt.
// It must be closed, and keeps the blob in use until then.
func (b *Blob) NewReader(ctx context.Context, from int64) io.ReadCloser {
	r := &reader{blob: b, from: from, at: from, release: func() {}}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	switch {
	case from < 0 || from > b.size:
		r.cancel(puller.Errorf(puller.ErrInvalidRequest, "the offset %d is not within a blob of %d bytes", from, b.size))
	case !b.store.use(b):
		r.cancel(errClosed)
	default:
		r.release = sync.OnceFunc(b.Release)
	}
	return r
}

// Close implements io.Closer. It ends a Read that waits.
func (r *reader) Close() error {
	r.cancel(errReaderClosed)
	r.release()
	return nil
}

// Read implements io.Reader. One goroutine may call it at a time.
func (r *reader) Read(p []byte) (int, error) {
	c, limit, err := r.ready()
	if err != nil || len(p) == 0 {
		return 0, err
	}
	n, err := c.file.ReadAt(p[:min(int64(len(p)), limit-r.at)], r.at)
	r.at += int64(n)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrClosed):
		r.blob.mu.Lock()
		defer r.blob.mu.Unlock()
		return 0, c.lost
	case err == io.EOF:
		return 0, io.ErrUnexpectedEOF // somebody made the file shorter
	}
	return 0, err
}

// ready waits until there is a byte to give, and returns up to where there are some.
// At the end of the blob it returns io.EOF.
func (r *reader) ready() (*content, int64, error) {
	b := r.blob
	b.mu.Lock()
	defer b.mu.Unlock()
	defer delete(b.waiting, r)
	for {
		c := b.content
		if r.content != c {
			if r.content != nil && r.at > r.from {
				return nil, 0, r.content.lost
			}
			r.content = c
		}
		if r.ctx.Err() != nil {
			return nil, 0, context.Cause(r.ctx)
		}
		limit := int64(0)
		switch {
		case c.verified && r.at == b.size:
			return nil, 0, io.EOF
		case c.lost != nil:
			return nil, 0, c.lost
		case c.verified:
			limit = b.size
		case !c.old:
			limit = min(c.have.End(r.at), b.size-held)
		}
		if limit > r.at {
			return c, limit, nil
		}
		b.waiting[r] = true
		if err := b.changes.wait(r.ctx, &b.mu); err != nil {
			return nil, 0, err
		}
	}
}
