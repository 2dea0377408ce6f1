package blobs

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
	// mostSize bounds sizes, in bytes, so that no sum of them overflows.
	mostSize = 1 << 50
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bitmap says which blocks of a part are there, in memory and, if it has a file, on
// disk.
type bitmap struct {
	size, block int64

	mu   sync.Mutex // held while the file is written, so that no older byte replaces a newer one
	bits []byte
	file *os.File
}

// newBitmap returns a bitmap without a block. The blocks of a large blob are larger
// than block.
func newBitmap(size, block int64) *bitmap {
	for (size-1)/block >= mostBlocks {
		block *= 2
	}
	m := &bitmap{size: size, block: block}
	m.bits = make([]byte, (m.blocks()+7)/8)
	return m
}

func (m *bitmap) blocks() int64 { return (m.size-1)/m.block + 1 }

// parseBitmap reads a bitmap file.
func parseBitmap(b []byte) (*bitmap, error) {
	le := binary.LittleEndian
	if len(b) < bitmapHeader || string(b[:8]) != bitmapMagic || crc32.Checksum(b[:24], castagnoli) != le.Uint32(b[24:]) {
		return nil, errors.New("this is no bitmap of a blob")
	}
	m := &bitmap{size: int64(le.Uint64(b[8:])), block: int64(le.Uint64(b[16:])), bits: b[bitmapHeader:]}
	if m.size <= 0 || m.size > mostSize || m.block <= 0 || m.block > mostSize || (m.size-1)/m.block >= mostBlocks || int64(len(m.bits)) != (m.blocks()+7)/8 {
		return nil, errors.New("the bitmap is of another length than its header says")
	}
	if extra := m.blocks() % 8; extra != 0 && m.bits[len(m.bits)-1]>>extra != 0 {
		return nil, errors.New("the bitmap has blocks after the blob's end")
	}
	return m, nil
}

// encode returns the bitmap as its file has it.
func (m *bitmap) encode() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, bitmapHeader+len(m.bits)), bitmapMagic...)
	b = le.AppendUint64(b, uint64(m.size))
	b = le.AppendUint64(b, uint64(m.block))
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, m.bits...)
}

// readBitmap reads a file that may be anything.
func readBitmap(r io.Reader) (*bitmap, error) {
	b, err := io.ReadAll(io.LimitReader(r, bitmapHeader+mostBlocks/8+1))
	if err != nil {
		return nil, err
	}
	return parseBitmap(b)
}

// spans returns what is there. It forgets blocks that end after length, which is that
// of the file with the bytes.
func (m *bitmap) spans(length int64) spans {
	var have spans
	for i := range m.blocks() {
		switch r := (Range{i * m.block, min((i+1)*m.block, m.size)}); {
		case r.To > length:
			m.bits[i/8] &^= 1 << (i % 8)
		case m.bits[i/8]&(1<<(i%8)) != 0:
			have.add(r)
		}
	}
	return have
}

// set adds the blocks that are full now that bytes were written within a range whose
// bytes are all there.
func (m *bitmap) set(written, there Range) error {
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

// clear takes out all blocks that have a byte of some ranges.
func (m *bitmap) clear(ranges []Range) error {
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

// empty reports whether no block is there.
func (m *bitmap) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.bits, func(b byte) bool { return b != 0 })
}
