package blobs

import (
	"context"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs/ranges"
)

// held is how many bytes at a blob's end readers get only after the digest was checked.
const held = 64 << 10

// Range is the bytes of a blob from From on, without the one at To.
type Range = ranges.Range

// A Blob is a blob that is in use. All that use it at a time share one. Its methods may
// be called from anywhere until Release, but Grant, Revoke and Granted also after it.
type Blob struct {
	store  *Store
	entry  *entry
	digest digest.Digest
	size   int64

	mu      sync.Mutex
	content *content
	keep    bool  // bytes whose digest was wrong
	room    int64 // bytes of the disk that the Store has made room for
	waiting map[*reader]bool
	changes changes
}

// Digest returns the blob's digest.
func (b *Blob) Digest() string { return string(b.digest) }

// Size returns how many bytes the blob has as a whole.
func (b *Blob) Size() int64 { return b.size }

// Whole reports whether all bytes are there and their digest was found right since the
// store was opened.
func (b *Blob) Whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.verified
}

// Have returns how many bytes are there, verified or not.
func (b *Blob) Have() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.have.Total()
}

// Missing returns the ranges whose bytes are not there, in ascending order. Where it
// returns none, the blob may still be found wrong: Verify tells.
func (b *Blob) Missing() []Range {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.have.Missing(b.size)
}

// Wanted returns the lowest offset of a byte that is missing and that a reader waits
// for now, or -1 if none does.
func (b *Blob) Wanted() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	lowest := int64(-1)
	for r := range b.waiting {
		at := b.content.have.End(r.at)
		if at == b.size {
			at = b.content.have.End(0) // it waits for the last bytes, and these for all others
		}
		if at < b.size && (lowest < 0 || at < lowest) {
			lowest = at
		}
	}
	return lowest
}

// WriteAt writes bytes of the blob. Calls may come in any order and at the same time,
// and may write the same bytes twice; bytes that are there stay as they are. The call
// that writes the last missing byte returns after the digest was checked.
//
// The error is ErrCorrupt where the digest is wrong, and ErrNoSpace where the
// disk is full: in both cases nothing is left of the blob, and it may be written
// again.
func (b *Blob) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > b.size-int64(len(p)) {
		return 0, puller.Errorf(puller.ErrInternal, "%d bytes at %d are not within a blob of %d bytes", len(p), off, b.size)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c, all := b.content, Range{From: off, To: off + int64(len(p))}
	for at := off; at < all.To; {
		if c.lost != nil {
			return int(at - off), c.lost
		}
		claim, ok := c.claim(Range{From: at, To: all.To})
		if !ok {
			b.changes.wait(context.Background(), &b.mu)
			continue
		}
		if claim.From < claim.To {
			if err := b.write(c, p[claim.From-off:claim.To-off], claim); err != nil {
				return int(at - off), err
			}
		}
		at = claim.To
	}
	return len(p), nil
}

// write writes bytes that the caller has claimed. The lock is not held meanwhile. Where
// the disk is full, blobs that are not in use go.
func (b *Blob) write(c *content, p []byte, claim Range) error {
	err := b.grow(c)
	if err == nil {
		err = b.put(c, p, claim.From)
	}
	for isFull(err) && c.lost == nil {
		b.mu.Unlock()
		evicted := b.store.evictOne()
		b.mu.Lock()
		if !evicted {
			break
		}
		err = b.put(c, p, claim.From)
	}
	c.unclaim(claim)
	b.changes.notify()
	switch {
	case c.lost != nil:
		return c.lost
	case puller.KindOf(err) == puller.ErrNoSpace:
		b.drop(c, err)
		return err
	case isFull(err):
		err = &puller.Error{Kind: puller.ErrNoSpace, Err: fmt.Errorf("the disk of %s is full: %w", b.store.dir, err)}
		b.drop(c, err)
		return err
	case err != nil:
		return &puller.Error{Kind: puller.ErrInternal, Err: fmt.Errorf("keep a blob: %w", err)}
	}
	there, bits := c.have.Add(claim), c.bits
	last := c.have.Total() == b.size
	b.mu.Unlock()
	err = bits.Add(claim, there)
	b.mu.Lock()
	if err != nil && !c.verified && c.lost == nil { // the bytes are there; only a restart would not know
		b.store.log.WithError(err).Warn("the bitmap of a blob in the cache can't be written")
	}
	if last {
		return b.verified(context.Background(), c)
	}
	return nil
}

// grow makes room for what is there and what is being written.
func (b *Blob) grow(c *content) error {
	need := c.have.Total()
	for _, r := range c.claimed {
		need += r.To - r.From
	}
	if onDisk(need) <= b.room {
		return nil
	}
	room := onDisk(min(need+growBy, b.size))
	b.mu.Unlock()
	err := b.store.grow(b, room)
	b.mu.Lock()
	if err == nil {
		b.room = max(b.room, room)
	}
	return err
}

// put writes bytes to the file, and makes it if there is none.
func (b *Blob) put(c *content, p []byte, off int64) error {
	if c.lost != nil {
		return c.lost
	}
	if c.file == nil {
		if err := c.create(b.store.dir, b.digest, b.size, b.store.block); err != nil {
			return err
		}
	}
	b.mu.Unlock()
	defer b.mu.Lock()
	_, err := c.file.WriteAt(p, off)
	return err
}

// Verify waits until the digest of a blob was checked that has all of its bytes. It
// returns nil if the blob is whole, ErrTruncated if bytes are missing, and ErrCorrupt
// if the blob was found wrong meanwhile; then nothing is left of it.
func (b *Blob) Verify(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.content
	if n := b.size - c.have.Total(); n > 0 {
		return puller.Errorf(puller.ErrTruncated, "%d of %d bytes of %s are missing", n, b.size, b.digest)
	}
	return b.verified(ctx, c)
}

// verified waits until a content that has all bytes was checked.
func (b *Blob) verified(ctx context.Context, c *content) error {
	for !c.verified {
		switch {
		case c.lost != nil:
			return c.lost
		case c.wrong:
			return errWrong(b.digest)
		}
		if err := b.changes.wait(ctx, &b.mu); err != nil {
			return err
		}
	}
	return nil
}

func errWrong(d digest.Digest) error {
	return puller.Errorf(puller.ErrCorrupt, "the bytes of %s have another digest", d)
}

// Reset throws away all bytes. Readers that have got some of them end.
func (b *Blob) Reset() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.content.lost != nil {
		return b.content.lost
	}
	return b.drop(b.content, puller.Errorf(puller.ErrCorrupt, "the bytes of %s were thrown away", b.digest))
}

// drop removes a content and its files, and gives the blob an empty one.
func (b *Blob) drop(c *content, why error) error {
	if c.lost != nil {
		return nil
	}
	c.lost = why
	c.close()
	b.content = &content{}
	b.changes.notify()
	err := b.store.removeFilesOf(b.entry)
	if err != nil {
		b.store.log.WithError(err).Warn("a blob can't be removed from the cache")
	}
	return err
}

// found reports whether it is a whole blob, checked or not.
func (b *Blob) found() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.verified || b.content.old
}

// close ends all readers and writers, and returns what the blob has.
func (b *Blob) close() *content {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content.lost = errClosed
	b.content.close()
	b.changes.notify()
	return b.content
}

// Grant notes that an identity may have the blob: its credentials have just shown that.
// The zero identity is that of callers without credentials; what it may have, all may.
// Grants last until the store closes, or the blob is removed.
func (b *Blob) Grant(identity [32]byte) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.entry.grant(identity)
}

// Revoke takes a grant back: what the identity was to fetch did not come with its
// credentials. A grant of the zero identity is not affected by another one's.
func (b *Blob) Revoke(identity [32]byte) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	delete(b.entry.grants, identity)
}

// Granted reports whether an identity may have the blob.
func (b *Blob) Granted(identity [32]byte) bool {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.entry.grants[identity] || b.entry.grants[[32]byte{}]
}

// Release ends one use of the blob. Its files stay, and may be removed from then on.
func (b *Blob) Release() { b.store.release(b) }
