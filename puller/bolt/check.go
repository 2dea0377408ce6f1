package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
)

// bbolt follows what its pages say without asking whether it makes sense. A
// branch that leads back to itself would end the process, for want of stack,
// which nothing recovers from; a page that is in use and in the list of free
// ones would be written over. So Open looks at all of the tree before bbolt
// does. The form of the pages is that of bbolt's file format, version 2.
const (
	pageHead    = 16 // id 8, flags 2, count 2, overflow 4
	elementSize = 16 // of a branch: position 4, key size 4, page 8; of a leaf: flags, position, key size, value size, 4 each
	bucketHead  = 16 // root page 8, or 0 for one that follows; sequence 8

	branchPage, leafPage, freePage = 0x01, 0x02, 0x10

	maxDepth = 32
)

var native = binary.NativeEndian

// meta is what bbolt goes by: the newer of two headers whose checksum is good.
type meta struct {
	pageSize             int
	root, free, end, txn uint64 // pages; end is the first that was never used
}

// readMeta returns the header that counts, and whether the other one is
// damaged. The error is damage also where the file is shorter than it says.
func readMeta(f *os.File) (m meta, half bool, err error) {
	var all [2]meta
	var good [2]bool
	if all[0], good[0], err = metaAt(f, 0); err != nil {
		return m, false, err
	}
	at := int64(os.Getpagesize())
	if good[0] {
		at = int64(all[0].pageSize)
	}
	if all[1], good[1], err = metaAt(f, at); err != nil {
		return m, false, err
	}
	switch {
	case !good[0] && !good[1]:
		return m, false, damagef("both headers are damaged")
	case !good[0], good[1] && all[1].txn > all[0].txn:
		m = all[1]
	default:
		m = all[0]
	}
	info, err := f.Stat()
	if err != nil {
		return m, false, err
	}
	if m.end > uint64(info.Size())/uint64(m.pageSize) {
		return m, false, damagef("it is cut off: %d pages of %d bytes do not fit in its %d bytes", m.end, m.pageSize, info.Size())
	}
	return m, !good[0] || !good[1], nil
}

func metaAt(f *os.File, at int64) (m meta, good bool, err error) {
	var b [64]byte
	if _, err := f.ReadAt(b[:], at+pageHead); err != nil {
		if errors.Is(err, io.EOF) {
			err = damagef("it is cut off in its headers")
		}
		return m, false, err
	}
	sum := fnv.New64a()
	sum.Write(b[:56])
	m = meta{
		pageSize: int(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]), free: native.Uint64(b[32:]), end: native.Uint64(b[40:]), txn: native.Uint64(b[48:]),
	}
	good = native.Uint32(b[0:]) == 0xED0CDAED && native.Uint32(b[4:]) == 2 && native.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= 1024 && m.pageSize <= 16<<20 && m.end < math.MaxInt64/(16<<20)
	return m, good, nil
}

// check looks at every page of a file that is in use. It does not look at the
// values of the records, which have their own checksums.
func check(f *os.File) (half bool, err error) {
	m, half, err := readMeta(f)
	if err != nil {
		return half, err
	}
	c := &checker{file: f, meta: m, seen: make([]bool, m.end)}
	if err := c.freeList(); err != nil {
		return half, err
	}
	var roots []uint64
	err = c.tree(m.root, 0, nil, nil, func(flags uint32, value []byte) error {
		if flags != 1 || len(value) < bucketHead {
			return damagef("something other than a bucket is among the buckets")
		}
		if root := native.Uint64(value); root != 0 {
			roots = append(roots, root)
			return nil
		}
		return inline(value[bucketHead:])
	})
	for _, root := range roots {
		if err == nil {
			err = c.tree(root, 0, nil, nil, plain)
		}
	}
	return half, err
}

func plain(flags uint32, _ []byte) error {
	if flags != 0 {
		return damagef("a bucket is where a record belongs")
	}
	return nil
}

func inline(page []byte) error {
	if len(page) < pageHead || native.Uint16(page[8:]) != leafPage {
		return damagef("a small bucket makes no sense")
	}
	return leaf(page, nil, nil, plain)
}

type checker struct {
	file  *os.File
	meta  meta
	seen  []bool // by page
	pages [maxDepth][]byte
}

// claim marks pages as used, once.
func (c *checker) claim(page, count uint64) error {
	if page < 2 || count > c.meta.end || page > c.meta.end-count {
		return damagef("page %d is not in the file", page)
	}
	for _, seen := range c.seen[page : page+count] {
		if seen {
			return damagef("page %d is used twice", page)
		}
	}
	for i := range count {
		c.seen[page+i] = true
	}
	return nil
}

// read returns a page with what overflows it, in memory that is good until the
// next one of that depth.
func (c *checker) read(page uint64, depth int) (b []byte, flags uint16, err error) {
	if depth == maxDepth || page >= c.meta.end {
		return nil, 0, damagef("page %d is not in the file, or too deep in it", page)
	}
	size, at := c.meta.pageSize, int64(page)*int64(c.meta.pageSize)
	b = slices.Grow(c.pages[depth][:0], size)[:size]
	if _, err := c.file.ReadAt(b, at); err != nil {
		return nil, 0, err
	}
	if native.Uint64(b) != page {
		return nil, 0, damagef("page %d is another one", page)
	}
	more := uint64(native.Uint32(b[12:]))
	if err := c.claim(page, 1+more); err != nil {
		return nil, 0, err
	}
	if more > 0 {
		b = slices.Grow(b, int(more)*size)[:int(1+more)*size]
		if _, err := c.file.ReadAt(b[size:], at+int64(size)); err != nil {
			return nil, 0, err
		}
	}
	c.pages[depth] = b
	return b, native.Uint16(b[8:]), nil
}

// freeList marks the pages that are free.
func (c *checker) freeList() error {
	b, flags, err := c.read(c.meta.free, 0)
	if err != nil {
		return err
	}
	if flags != freePage {
		return damagef("the list of free pages is not there")
	}
	list := b[pageHead:]
	count := uint64(native.Uint16(b[10:]))
	if count == math.MaxUint16 {
		count, list = native.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return damagef("the list of free pages is too long")
	}
	for i := range count {
		if err := c.claim(native.Uint64(list[i*8:]), 1); err != nil {
			return err
		}
	}
	return nil
}

// tree looks at the pages of a bucket. Its keys are not below low and, unless
// that is nil, below high.
func (c *checker) tree(page uint64, depth int, low, high []byte, each func(flags uint32, value []byte) error) error {
	b, flags, err := c.read(page, depth)
	switch {
	case err != nil:
		return err
	case flags == leafPage:
		return leaf(b, low, high, each)
	case flags != branchPage:
		return damagef("page %d is of no use here", page)
	}
	count := int(native.Uint16(b[10:]))
	if count == 0 {
		return damagef("page %d leads nowhere", page)
	}
	var keys [][]byte
	for i := range count {
		at := pageHead + i*elementSize
		if at+elementSize > len(b) {
			return damagef("page %d has more in it than it can have", page)
		}
		key, _, err := piece(b, at, native.Uint32(b[at:]), native.Uint32(b[at+4:]), 0)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	if err := inOrder(keys, low, high); err != nil {
		return err
	}
	for i, key := range keys {
		next := high
		if i+1 < count {
			next = keys[i+1]
		}
		if err := c.tree(native.Uint64(b[pageHead+i*elementSize+8:]), depth+1, key, next, each); err != nil {
			return err
		}
	}
	return nil
}

// leaf looks at what a page holds.
func leaf(b []byte, low, high []byte, each func(flags uint32, value []byte) error) error {
	last, count := low, int(native.Uint16(b[10:]))
	for i := range count {
		at := pageHead + i*elementSize
		if at+elementSize > len(b) {
			return damagef("a page has more in it than it can have")
		}
		key, value, err := piece(b, at, native.Uint32(b[at+4:]), native.Uint32(b[at+8:]), native.Uint32(b[at+12:]))
		if err != nil {
			return err
		}
		if order := bytes.Compare(last, key); order > 0 || order == 0 && i > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return damagef("the key %x is in the wrong place", key)
		}
		last = key
		if err := each(native.Uint32(b[at:]), value); err != nil {
			return err
		}
	}
	return nil
}

// piece returns an element's key and value; its position counts from itself.
func piece(b []byte, at int, position, keySize, valueSize uint32) (key, value []byte, err error) {
	begin := uint64(at) + uint64(position)
	middle := begin + uint64(keySize)
	end := middle + uint64(valueSize)
	if keySize == 0 || end > uint64(len(b)) {
		return nil, nil, damagef("an element reaches out of its page")
	}
	return b[begin:middle], b[middle:end], nil
}

func inOrder(keys [][]byte, low, high []byte) error {
	for i, key := range keys {
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 || bytes.Compare(low, key) > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return damagef("the key %x is in the wrong place", key)
		}
	}
	return nil
}
