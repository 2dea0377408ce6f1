package blobs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller/mirror/blobs/ranges"
)

// content is the bytes of a blob in one file. A blob that loses its bytes gets another
// content, so nothing that was begun with the old one changes the new one. The blob's
// lock guards it; reading and writing its files needs no lock.
type content struct {
	file *os.File       // nil before the first byte
	bits *ranges.Bitmap // nil before the first byte, and for a whole blob
	have ranges.Set
	// claimed are the ranges that are being written. No other writer writes there, and
	// no byte is written twice: what was hashed stays as it was.
	claimed []Range
	old     bool  // a whole blob of an earlier start, not checked yet
	hashed  int64 // bytes from the first on
	// verified says that the digest of all bytes was right.
	verified bool
	wrong    bool  // the digest of all bytes was wrong, and they are kept for now: see KeepWrong
	named    bool  // the file has the name of a whole blob
	lost     error // why it can't be used any more: the bytes were thrown away, or the blob is closed
}

// openContent opens what a directory holds of a blob. An error that is
// fs.ErrNotExist says that it holds nothing that can be used.
func openContent(dir string, d digest.Digest, size int64, whole, verified bool) (*content, error) {
	if whole {
		f, err := openFile(dir, fileName(d), os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err != nil || info.Size() != size {
			f.Close()
			return nil, errors.Join(err, fs.ErrNotExist)
		}
		return &content{file: f, have: ranges.Set{{From: 0, To: size}}, old: !verified, verified: verified, named: true}, nil
	}
	f, err := openFile(dir, fileName(d)+partSuffix, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	m, err := openBitmap(dir, d)
	if err == nil && m.Size() != size {
		m.Close()
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return &content{file: f, bits: m, have: m.Ranges(info.Size())}, nil
}

// create makes the files of a part.
func (c *content) create(dir string, d digest.Digest, size, block int64) error {
	name := fileName(d)
	f, err := openFile(dir, name+partSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	m := ranges.NewBitmap(size, block)
	noted, err := openFile(dir, name+bitmapSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err == nil {
		err = m.Create(noted)
	}
	if err != nil {
		f.Close()
		noted.Close()
		return errors.Join(err, removeFile(dir, name+partSuffix), removeFile(dir, name+bitmapSuffix))
	}
	c.file, c.bits = f, m
	return nil
}

// rename gives the file the name of a whole blob.
func (c *content) rename(dir string, d digest.Digest) error {
	name := filepath.Join(dir, fileName(d))
	if err := os.Rename(name+partSuffix, name); err != nil {
		return err
	}
	c.named = true
	return removeFile(dir, fileName(d)+bitmapSuffix)
}

// claim takes what is missing at the beginning of a range for one writer. ok is false
// where another writer has it. A claim that is empty says that nothing is missing.
func (c *content) claim(r Range) (claim Range, ok bool) {
	from := c.have.End(r.From)
	if from >= r.To {
		return Range{From: r.To, To: r.To}, true
	}
	claim = Range{From: from, To: c.have.Next(from, r.To)}
	claim.To = min(claim.To, r.To)
	for _, other := range c.claimed {
		if other.From <= from && from < other.To {
			return Range{}, false
		}
		if from < other.From {
			claim.To = min(claim.To, other.From)
		}
	}
	c.claimed = append(c.claimed, claim)
	return claim, true
}

func (c *content) unclaim(r Range) {
	c.claimed = slices.DeleteFunc(c.claimed, func(other Range) bool { return other == r })
}

// close closes the files. Reads and writes that have begun end first.
func (c *content) close() {
	if c.file != nil {
		c.file.Close()
	}
	if c.bits != nil {
		c.bits.Close()
	}
}
