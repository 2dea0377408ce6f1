package ranges

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
)

// A bitmap file is a header and a bit for each block, the lowest bit of a byte first:
//
//	magic  8 bytes
//	size   uint64, of the blob in bytes
//	block  uint64, bytes of a block; the last block may have fewer
//	sum    uint32, CRC-32C of what is above
//	bits   a byte for eight blocks; the bits after the last block are 0
//
// Numbers are little-endian.
const (
	bitmapMagic  = "towlmap1"
	bitmapHeader = 28
	// mostBlocks is how many blocks a blob is divided into at most. It bounds a bitmap
	// to 8 KiB, also for a size that nobody has a disk for.
	mostBlocks = 64 << 10
	// MaxSize bounds sizes, in bytes, so that no sum of them overflows.
	MaxSize = 1 << 50
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Bitmap says which blocks of a part are there, in memory and, if it has a file, on
// disk. Add, Clear and Empty may be called from anywhere; the others by its owner alone.
type Bitmap struct {
	size, block int64

	mu   sync.Mutex // held while the file is written, so that no older byte replaces a newer one
	bits []byte
	file *os.File
}

// NewBitmap returns a bitmap without a block. The blocks of a large blob are larger
// than block.
func NewBitmap(size, block int64) *Bitmap {
	for (size-1)/block >= mostBlocks {
		block *= 2
	}
	m := &Bitmap{size: size, block: block}
	m.bits = make([]byte, (m.blocks()+7)/8)
	return m
}

// Size returns how many bytes the blob has as a whole.
func (m *Bitmap) Size() int64 { return m.size }

func (m *Bitmap) blocks() int64 { return (m.size-1)/m.block + 1 }

// ParseBitmap reads a bitmap file.
func ParseBitmap(b []byte) (*Bitmap, error) {
	le := binary.LittleEndian
	if len(b) < bitmapHeader || string(b[:8]) != bitmapMagic || crc32.Checksum(b[:24], castagnoli) != le.Uint32(b[24:]) {
		return nil, errors.New("this is no bitmap of a blob")
	}
	m := &Bitmap{size: int64(le.Uint64(b[8:])), block: int64(le.Uint64(b[16:])), bits: b[bitmapHeader:]}
	if m.size <= 0 || m.size > MaxSize || m.block <= 0 || m.block > MaxSize || (m.size-1)/m.block >= mostBlocks || int64(len(m.bits)) != (m.blocks()+7)/8 {
		return nil, errors.New("the bitmap is of another length than its header says")
	}
	if extra := m.blocks() % 8; extra != 0 && m.bits[len(m.bits)-1]>>extra != 0 {
		return nil, errors.New("the bitmap has blocks after the blob's end")
	}
	return m, nil
}

// Encode returns the bitmap as its file has it.
func (m *Bitmap) Encode() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, bitmapHeader+len(m.bits)), bitmapMagic...)
	b = le.AppendUint64(b, uint64(m.size))
	b = le.AppendUint64(b, uint64(m.block))
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, m.bits...)
}

// OpenBitmap reads a file that may be anything. The file is the bitmap's from then on,
// unless there is an error.
func OpenBitmap(f *os.File) (*Bitmap, error) {
	b, err := io.ReadAll(io.LimitReader(f, bitmapHeader+mostBlocks/8+1))
	if err != nil {
		return nil, err
	}
	m, err := ParseBitmap(b)
	if err == nil {
		m.file = f
	}
	return m, err
}

// Create writes the bitmap to an empty file, which is the bitmap's from then on.
func (m *Bitmap) Create(f *os.File) error {
	m.file = f
	_, err := f.Write(m.Encode())
	return err
}

// Close closes the file.
func (m *Bitmap) Close() { m.file.Close() }

// Ranges returns what is there. It forgets blocks that end after length, which is that
// of the file with the bytes.
func (m *Bitmap) Ranges(length int64) Set {
	var have Set
	for i := range m.blocks() {
		switch r := (Range{i * m.block, min((i+1)*m.block, m.size)}); {
		case r.To > length:
			m.bits[i/8] &^= 1 << (i % 8)
		case m.bits[i/8]&(1<<(i%8)) != 0:
			have.Add(r)
		}
	}
	return have
}

// Add adds the blocks that are full now that bytes were written within a range whose
// bytes are all there.
func (m *Bitmap) Add(written, there Range) error {
	first, last := written.From/m.block, (written.To-1)/m.block
	if first*m.block < there.From {
		first++
	}
	if min((last+1)*m.block, m.size) > there.To {
		last--
	}
	if first > last {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := first; i <= last; i++ {
		m.bits[i/8] |= 1 << (i % 8)
	}
	_, err := m.file.WriteAt(m.bits[first/8:last/8+1], bitmapHeader+first/8)
	return err
}

// Clear takes out all blocks that have a byte of some ranges.
func (m *Bitmap) Clear(ranges []Range) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range ranges {
		if r.From >= r.To || r.From < 0 || r.To > m.size {
			continue
		}
		for i := r.From / m.block; i <= (r.To-1)/m.block; i++ {
			m.bits[i/8] &^= 1 << (i % 8)
		}
	}
	_, err := m.file.WriteAt(m.bits, bitmapHeader)
	return err
}

// Empty reports whether no block is there.
func (m *Bitmap) Empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.bits, func(b byte) bool { return b != 0 })
}
