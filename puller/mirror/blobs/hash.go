package blobs

import (
	"context"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/towline/towline/puller"
)

// hashPiece is how many bytes are read and hashed at a time.
const hashPiece = 256 << 10

// hasher hashes the bytes of a blob from the first on as they arrive, and checks the digest
// when all are there.
type hasher struct{ blob *Blob }

// run ends when the blob is closed.
func (h *hasher) run() {
	b := h.blob
	defer b.store.hashers.Done()
	var of *content
	var sum hash.Hash
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.content.lost == nil {
		c := b.content
		if c != of {
			of, sum = c, b.digest.Algorithm().Hash()
		}
		switch end := c.have.End(c.hashed); {
		case !c.verified && c.hashed < end:
			from := c.hashed
			b.mu.Unlock()
			n, err := b.store.hash(sum, c.file, Range{From: from, To: end})
			b.mu.Lock()
			c.hashed += n
			if err != nil {
				b.drop(c, puller.Errorf(puller.ErrCorrupt, "the cache can't read back %s: %w", b.digest, err))
			}
		case !c.verified && !c.wrong && end == b.size:
			h.check(c, sum)
		default:
			b.changes.wait(context.Background(), &b.mu)
		}
	}
}

// check compares the digest of all bytes. The blob's lock is held.
func (h *hasher) check(c *content, sum hash.Hash) {
	b := h.blob
	if digest.NewDigest(b.digest.Algorithm(), sum) != b.digest {
		if c.old {
			b.store.log.WithField("digest", b.digest).Warn("a blob in the cache is damaged, and was removed")
		}
		if b.keep && !c.old && c.bits != nil {
			c.wrong = true
			b.changes.notify()
			return
		}
		b.drop(c, errWrong(b.digest))
		return
	}
	c.verified = true
	b.changes.notify()
	if c.named || c.file == nil {
		return
	}
	if err := c.rename(b.store.dir, b.digest); err != nil { // it is a part after a restart, with all bytes
		b.store.log.WithFields(logrus.Fields{"digest": b.digest, logrus.ErrorKey: err}).Warn("a blob in the cache can't be renamed")
	}
}

// hash hashes some bytes of a range, and returns how many. Few calls run at a time, so
// that they need little memory whatever the number of blobs.
func (s *Store) hash(sum hash.Hash, file *os.File, r Range) (int64, error) {
	buf := <-s.buffers
	defer func() { s.buffers <- buf }()
	piece := buf[:min(int64(len(buf)), r.To-r.From)]
	if n, err := file.ReadAt(piece, r.From); n < len(piece) {
		if err == io.EOF {
			err = fmt.Errorf("its file ends at byte %d", r.From+int64(n))
		}
		return 0, err
	}
	sum.Write(piece)
	return int64(len(piece)), nil
}
