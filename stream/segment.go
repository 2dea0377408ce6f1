package stream

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// A tape's segment is entries one after the other, each a frame as it is told
// and what readers need to know of it:
//
//	magic   4 bytes
//	sum     uint32, CRC-32C of all that follows
//	length  uint32, of data
//	job     uint32, as Frame.job
//	order   uint64
//	prev    uint64, the order of the frame before, 0 for none
//	mark    2 × uint64
//	type    uint8, its length, and its bytes
//	data    length bytes
//
// Numbers are little-endian. An entry without a type and data is no frame: it
// says only that what is up to prev has been lost.
const (
	entryMagic  = "\xfft\x00\x01" // no JSON has these bytes: what is left of an entry never looks like one
	entryHeader = 49
	// maxData is the longest JSON of a frame on a tape, in bytes.
	maxData = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entry is a frame on a tape.
type entry struct {
	Frame
	prev uint64
	mark Mark
	end  int64 // where in the segment the next one begins
}

func appendEntry(dst []byte, e *entry) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = append(dst, entryMagic...)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, uint32(len(e.data)))
	dst = le.AppendUint32(dst, uint32(e.job))
	dst = le.AppendUint64(dst, e.order)
	dst = le.AppendUint64(dst, e.prev)
	dst = le.AppendUint64(dst, e.mark[0])
	dst = le.AppendUint64(dst, e.mark[1])
	dst = append(dst, byte(len(e.Type)))
	dst = append(dst, e.Type...)
	dst = append(dst, e.data...)
	le.PutUint32(dst[start+4:], crc32.Checksum(dst[start+8:], castagnoli))
	return dst
}

// parseEntry reads the entry that b begins with, and shares b's memory. size
// is how many bytes it has; one above len(b) says that b ends before it, 0 that
// there is none.
func parseEntry(b []byte) (e entry, size int) {
	if len(b) < entryHeader {
		return e, entryHeader
	}
	le := binary.LittleEndian
	length, job, typ := le.Uint32(b[8:]), le.Uint32(b[12:]), int(b[entryHeader-1])
	if string(b[:4]) != entryMagic || length > maxData || job > length {
		return e, 0
	}
	size = entryHeader + typ + int(length)
	if size > len(b) {
		return e, size
	}
	if crc32.Checksum(b[8:size], castagnoli) != le.Uint32(b[4:]) {
		return e, 0
	}
	e.order, e.prev = le.Uint64(b[16:]), le.Uint64(b[24:])
	e.mark = Mark{le.Uint64(b[32:]), le.Uint64(b[40:])}
	e.Seq, e.job = e.order, int(job)
	e.Type = string(b[entryHeader : entryHeader+typ])
	e.data = b[entryHeader+typ : size : size]
	if e.order == 0 || e.prev > e.order {
		return e, 0
	}
	return e, size
}

// readEntries reads the entries of a segment from at on, none beyond end:
// those that fit in most bytes, but one at least. If there are none, what is
// at that place is damaged.
func readEntries(r io.ReaderAt, at, end int64, most int) ([]entry, error) {
	want := int(min(end-at, int64(most)))
	for {
		buf := make([]byte, want)
		n, err := r.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return nil, err
		}
		buf = buf[:n]
		var all []entry
		first := 0
		for place := at; len(buf) > 0; {
			e, size := parseEntry(buf)
			if size == 0 || size > len(buf) {
				first = size
				break
			}
			place += int64(size)
			e.end = place
			all = append(all, e)
			buf = buf[size:]
		}
		if len(all) > 0 || first <= n || n < want || int64(first) > end-at {
			return all, nil
		}
		want = first
	}
}
