package blobs

import (
	"context"
	"errors"

	"github.com/towline/towline/puller"
)

// errMissing is why bytes are not read: they are not there.
var errMissing = errors.New("the bytes are not there")

// Await waits until the byte at an offset is there, and returns up to where others follow
// it. It is for who knows that a blob's digest may not have been checked yet. It waits
// also while a blob that has all bytes is known to be wrong.
func (b *Blob) Await(ctx context.Context, off int64) (to int64, err error) {
	if off < 0 || off >= b.size {
		return 0, puller.Errorf(puller.ErrInvalidRequest, "the offset %d is not within a blob of %d bytes", off, b.size)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &reader{blob: b, at: off} // so that Wanted tells of it
	defer delete(b.waiting, r)
	for {
		c := b.content
		switch {
		case c.lost != nil:
			return 0, c.lost
		case c.verified || !c.old && !c.wrong:
			if end := c.have.End(off); end > off {
				return end, nil
			}
		}
		b.waiting[r] = true
		if err := b.changes.wait(ctx, &b.mu); err != nil {
			return 0, err
		}
	}
}

// ReadAt reads bytes that are there, whether the digest was checked or not. Where not all of
// them are there, it reads none.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	b.mu.Lock()
	c := b.content
	there := c.lost == nil && c.file != nil && c.have.End(off) >= off+int64(len(p))
	b.mu.Unlock()
	if !there {
		return 0, errMissing
	}
	return c.file.ReadAt(p, off)
}

// KeepWrong says whether the bytes stay where the digest of all of them is wrong. The blob
// is not whole then, but none are missing: Verify and WriteAt return ErrCorrupt. Discard
// throws a part of them away, and Reset all. They go when KeepWrong is taken back, and with
// the last Release.
func (b *Blob) KeepWrong(keep bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep = keep
	if !keep && b.content.wrong {
		b.drop(b.content, errWrong(b.digest))
	}
}

// Discard throws away bytes of a blob that KeepWrong has kept, so that they are missing: at
// least those of some ranges. The digest is checked again when they have come. Readers that
// have got some bytes end.
func (b *Blob) Discard(bad []Range) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.content
	if !c.wrong {
		return puller.Errorf(puller.ErrInternal, "%s is not known to be wrong", b.digest)
	}
	if err := c.bits.Clear(bad); err != nil {
		return errors.Join(err, b.drop(c, errWrong(b.digest)))
	}
	c.lost = errWrong(b.digest)
	c.close()
	fresh, err := openContent(b.store.dir, b.digest, b.size, false, false)
	if err != nil {
		b.content = &content{}
		b.changes.notify()
		return errors.Join(err, b.store.removeFilesOf(b.entry))
	}
	b.content = fresh
	b.changes.notify()
	return nil
}
