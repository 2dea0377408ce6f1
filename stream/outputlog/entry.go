package outputlog

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// An Entry is one event of a log.
type Entry struct {
	// Order is the event's number, above that of the entry before.
	Order uint64
	// Type is the event's type, at most 255 bytes. It is "" in a gap, which
	// stands for entries up to Order that are not in the log.
	Type string
	// Data is the event as a JSON object.
	Data []byte
	// Job is where in Data the ID of the job belongs; 0 where it is there
	// already.
	Job int
}

// IsGap reports whether the entry stands for entries that are missing.
func (e *Entry) IsGap() bool { return e.Type == "" }

// A segment is records one after the other, each an entry and what readers need
// to know of it:
//
//	magic   4 bytes
//	sum     uint32, CRC-32C of all that follows
//	length  uint32, of data
//	job     uint32
//	order   uint64
//	prev    uint64, the order of the entry before, 0 for none
//	offsets 2 × uint64
//	type    uint8, its length, and its bytes
//	data    length bytes
//
// Numbers are little-endian. A record without a type and data is no entry: it
// says only that what is up to prev has been lost.
const (
	recordMagic  = "\xfft\x00\x01" // no JSON has these bytes: the rest of a record never looks like one
	recordHeader = 49
	// maxData is the longest data of an entry, in bytes.
	maxData = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is an entry as it is in a segment.
type record struct {
	Entry
	prev    uint64
	offsets Offsets
	end     int64 // where in the segment the next one begins
}

func appendRecord(dst []byte, r *record) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = append(dst, recordMagic...)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = le.AppendUint32(dst, uint32(r.Job))
	dst = le.AppendUint64(dst, r.Order)
	dst = le.AppendUint64(dst, r.prev)
	dst = le.AppendUint64(dst, r.offsets[0])
	dst = le.AppendUint64(dst, r.offsets[1])
	dst = append(dst, byte(len(r.Type)))
	dst = append(dst, r.Type...)
	dst = append(dst, r.Data...)
	le.PutUint32(dst[start+4:], crc32.Checksum(dst[start+8:], castagnoli))
	return dst
}

// parseRecord reads the record that b begins with, and shares b's memory. size
// is how many bytes it has. A size above len(b) says that b ends before it, 0
// that there is none.
func parseRecord(b []byte) (r record, size int) {
	if len(b) < recordHeader {
		return r, recordHeader
	}
	le := binary.LittleEndian
	length, job, typ := le.Uint32(b[8:]), le.Uint32(b[12:]), int(b[recordHeader-1])
	if string(b[:4]) != recordMagic || length > maxData || job > length {
		return r, 0
	}
	size = recordHeader + typ + int(length)
	if size > len(b) {
		return r, size
	}
	if crc32.Checksum(b[8:size], castagnoli) != le.Uint32(b[4:]) {
		return r, 0
	}
	r.Order, r.prev = le.Uint64(b[16:]), le.Uint64(b[24:])
	r.offsets = Offsets{le.Uint64(b[32:]), le.Uint64(b[40:])}
	r.Job = int(job)
	r.Type = string(b[recordHeader : recordHeader+typ])
	r.Data = b[recordHeader+typ : size : size]
	if r.Order == 0 || r.prev > r.Order {
		return r, 0
	}
	return r, size
}

// readRecords reads the records of a segment from offset on, none beyond end:
// those that fit in most bytes, but one at least. If there are none, what is at
// that offset is damaged.
func readRecords(file io.ReaderAt, offset, end int64, most int) ([]record, error) {
	want := int(min(end-offset, int64(most)))
	for {
		buf := make([]byte, want)
		n, err := file.ReadAt(buf, offset)
		if err != nil && err != io.EOF {
			return nil, err
		}
		buf = buf[:n]
		var all []record
		first := 0
		for at := offset; len(buf) > 0; {
			r, size := parseRecord(buf)
			if size == 0 || size > len(buf) {
				first = size
				break
			}
			at += int64(size)
			r.end = at
			all = append(all, r)
			buf = buf[size:]
		}
		if len(all) > 0 || first <= n || n < want || int64(first) > end-offset {
			return all, nil
		}
		want = first
	}
}
