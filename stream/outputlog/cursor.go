package outputlog

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// A Snapshot is the extent of a log at some time.
type Snapshot struct {
	segments []segment
	// Last is the order of the last entry, written or not; 0 for none.
	Last uint64
}

// Snapshot returns the log's present extent.
func (l *Log) Snapshot() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Snapshot{slices.Clone(l.segments), l.last}
}

// First returns the order of the oldest entry that is kept. If none is, it is
// that of the last one that was lost; 0 for neither.
func (l *Log) First() uint64 {
	s := l.Snapshot()
	for _, s := range s.segments {
		if s.first != 0 {
			return s.first
		}
	}
	return s.Last
}

// A Cursor is a reader's position in a log. The zero Cursor is the beginning.
// Two cursors at the same position are equal.
type Cursor struct {
	id     int // the segment's
	offset int64
	order  uint64 // everything up to it was read
	gap    bool   // the last that was returned is a gap
}

// Order returns up to which order the reader has read.
func (c Cursor) Order() uint64 { return c.order }

// Seek returns the cursor whose next entry is the first after an order.
func (l *Log) Seek(order uint64) Cursor {
	c := Cursor{order: order}
	for _, s := range l.Snapshot().segments {
		if s.first != 0 && s.first <= order {
			c.id = s.id
		}
	}
	return c
}

// Read reads on from a cursor to the end of a snapshot, but no entry above the
// order last, and some 64 KiB of entries at a time. Entries that are missing in
// a row are one entry that is a gap. more says that it has not come to the end.
// After an error, which is the disk's, the cursor is as it was.
func (l *Log) Read(c *Cursor, s Snapshot, last uint64) (entries []Entry, more bool, err error) {
	gap := func(order uint64) {
		if order <= c.order {
			return
		}
		if !c.gap {
			entries = append(entries, Entry{Order: order})
		}
		c.order, c.gap = order, true
	}
	for _, seg := range s.segments {
		if seg.id > c.id {
			c.id, c.offset = seg.id, 0
		}
		if seg.id < c.id || c.offset >= seg.size {
			continue
		}
		records, err := l.records(seg, c.offset)
		if err != nil {
			return nil, false, err
		}
		if len(records) == 0 {
			c.offset = seg.size // the next record says what is missing
			continue
		}
		for _, r := range records {
			if r.Order > last {
				return entries, false, nil
			}
			if r.Order > c.order {
				gap(r.prev)
				if !r.IsGap() {
					entries = append(entries, r.Entry)
					c.gap = false
				}
				c.order = r.Order
			}
			c.offset = r.end
		}
		if c.offset < seg.size || seg.id != s.segments[len(s.segments)-1].id {
			return entries, true, nil
		}
	}
	if s.Last <= last {
		gap(s.Last)
	}
	return entries, false, nil
}

// records reads some records of a segment, none if it was removed.
func (l *Log) records(s segment, offset int64) ([]record, error) {
	file, err := os.Open(l.name(s.number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// A newer segment may have got the file's name just now.
	if !slices.ContainsFunc(l.Snapshot().segments, func(kept segment) bool { return kept.id == s.id }) {
		return nil, nil
	}
	return readRecords(file, offset, s.size, readSize)
}
