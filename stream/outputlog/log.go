package outputlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
)

const (
	// maxSegments is how many files a log has at most. When one more is needed,
	// the one with the oldest entries is removed.
	maxSegments = 4
	// readSize is how much of a log is read at a time, in bytes.
	readSize = 64 << 10
)

// A Log keeps entries in files, so that there may be more of them than memory
// has room for. Above a limit the oldest are dropped. Each entry is written
// once, at once and without fsync: it outlasts the process, however that ends,
// but not always the machine.
//
// A log holds one file open, while it is written. Readers open what they read
// each time. So they hold nothing and delay nobody. A log's methods may be
// called from anywhere.
type Log struct {
	path        string
	segmentSize int64 // at most

	writing sync.Mutex // held while a file is written
	file    *os.File   // the last segment; nil if the log is not written
	buf     []byte
	lost    bool // the last entry could not be written

	mu       sync.Mutex // never held while a file is used
	segments []segment  // oldest first
	last     uint64     // the order of the last entry, written or not; 0 for none
	offsets  Offsets
}

// Offsets says how much of a program's two outputs is in the log up to an
// entry, in bytes of each output. The writer counts them.
type Offsets [2]uint64

// segment is one of a log's files.
type segment struct {
	id     int    // grows from one to the next
	number int    // in the file's name
	size   int64  // of the entries in it
	first  uint64 // the order of the first entry, 0 for none
}

// Create makes an empty log in the files path.0 to path.3, and removes one that
// is there. The files have limit bytes at most. An entry of more than a quarter
// of that, or with more than 1 MiB of data, does not fit.
func Create(path string, limit int64) (*Log, error) {
	if err := Remove(path); err != nil {
		return nil, err
	}
	l := &Log{path: path, segmentSize: limit / maxSegments}
	if err := l.rotate(); err != nil {
		return nil, err
	}
	return l, nil
}

// Open goes on with a log that an earlier process has left, however it ended:
// an entry that it did not write to its end is cut off. The error is
// fs.ErrNotExist where there is no log.
func Open(path string, limit int64) (*Log, error) {
	l, err := OpenReadOnly(path)
	if err != nil {
		return nil, err
	}
	l.segmentSize = limit / maxSegments
	if len(l.segments) == 0 {
		if err := l.rotate(); err != nil {
			return nil, err
		}
		return l, nil
	}
	last := &l.segments[len(l.segments)-1]
	file, err := os.OpenFile(l.name(last.number), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	valid := int64(0)
	for valid < last.size {
		entries, err := readRecords(file, valid, last.size, readSize)
		if err != nil {
			file.Close()
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		e := entries[len(entries)-1]
		valid, l.last, l.offsets = e.end, e.Order, e.offsets
	}
	if err := file.Truncate(valid); err != nil {
		file.Close()
		return nil, err
	}
	last.size, l.file = valid, file
	return l, nil
}

// OpenReadOnly is Open for a log that is not written any more. It costs little
// however long the log is, holds no file open and need not be closed.
func OpenReadOnly(path string) (*Log, error) {
	l := &Log{path: path}
	missing := 0
	for number := range maxSegments {
		s, err := l.stat(number)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return nil, err
		case s.first != 0:
			l.segments = append(l.segments, s)
		}
	}
	if missing == maxSegments {
		return nil, fmt.Errorf("output log %s: %w", path, fs.ErrNotExist)
	}
	slices.SortFunc(l.segments, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	for i := range l.segments {
		l.segments[i].id = i
	}
	return l, nil
}

// Removed returns a log whose files were removed: all entries up to an order
// are missing.
func Removed(order uint64) *Log { return &Log{last: order} }

// Remove removes a log's files. It is no error if there are none. What readers
// have read already stays valid.
func Remove(path string) error {
	l := &Log{path: path}
	var all []error
	for number := range maxSegments {
		all = append(all, l.remove(number))
	}
	return errors.Join(all...)
}

// Size returns the size of the log's files, in bytes.
func (l *Log) Size() (size int64) {
	for _, s := range l.Snapshot().segments {
		size += s.size
	}
	return size
}

// Offsets returns the offsets of the last entry that was written.
func (l *Log) Offsets() Offsets {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offsets
}

// Complete reports whether every entry since Create is still in the log.
func (l *Log) Complete() bool {
	for _, s := range l.Snapshot().segments {
		if s.first != 0 {
			entries, err := l.records(s, 0)
			return err == nil && len(entries) > 0 && entries[0].prev == 0
		}
	}
	return true
}

// Append adds an entry. Its order is above that of the one before. It waits for
// the disk, but not for readers. After an error readers miss the entry, and the
// next one may well be written. The error is fs.ErrClosed after Close, and in a
// log that is read only.
func (l *Log) Append(e Entry, offsets Offsets) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	err := l.write(&record{Entry: e, prev: l.last, offsets: offsets})
	l.lost = err != nil
	l.mu.Lock()
	l.last = e.Order
	l.mu.Unlock()
	return err
}

// Close ends the writing. The log can still be read. After an error it may not
// be known later that the last entries, which could not be written, are missing.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.file == nil {
		return nil
	}
	var err error
	if l.lost {
		err = l.write(&record{Entry: Entry{Order: l.last}, prev: l.last, offsets: l.offsets})
	}
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}

// write writes a record to the last segment. writing is held.
func (l *Log) write(r *record) error {
	if l.file == nil {
		return fmt.Errorf("output log %s: %w", l.path, fs.ErrClosed)
	}
	l.buf = appendRecord(l.buf[:0], r)
	n := int64(len(l.buf))
	if n > l.segmentSize || len(r.Data) > maxData || len(r.Type) > 255 {
		return fmt.Errorf("output log %s: an entry of %d bytes does not fit", l.path, len(r.Data))
	}
	last := &l.segments[len(l.segments)-1]
	if last.size > 0 && last.size+n > l.segmentSize {
		if err := l.rotate(); err != nil {
			return err
		}
		last = &l.segments[len(l.segments)-1]
	}
	if _, err := l.file.WriteAt(l.buf, last.size); err != nil {
		// The next record overwrites what was written of this one. It is cut
		// off for those who read the file after a crash.
		l.file.Truncate(last.size)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if last.size += n; last.first == 0 {
		last.first = r.Order
	}
	l.offsets = r.offsets
	return nil
}

// rotate begins the next segment. It removes the oldest first if there are
// enough. After an error the one before is still written.
func (l *Log) rotate() error {
	next := segment{}
	if n := len(l.segments); n > 0 {
		next.id = l.segments[n-1].id + 1
	}
	l.mu.Lock()
	if len(l.segments) == maxSegments {
		l.segments = slices.Delete(l.segments, 0, 1)
	}
	l.mu.Unlock()
	for slices.ContainsFunc(l.segments, func(s segment) bool { return s.number == next.number }) {
		next.number++
	}
	// A new file, so that those who read the old one go on with that.
	if err := l.remove(next.number); err != nil {
		return err
	}
	file, err := os.OpenFile(l.name(next.number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	l.mu.Lock()
	l.segments = append(l.segments, next)
	l.mu.Unlock()
	return nil
}

// stat returns what the file of a number has.
func (l *Log) stat(number int) (segment, error) {
	s := segment{number: number}
	file, err := os.Open(l.name(number))
	if err != nil {
		return s, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return s, err
	}
	s.size = info.Size()
	entries, err := readRecords(file, 0, s.size, 4<<10)
	if len(entries) > 0 {
		s.first = entries[0].Order
	}
	return s, err
}

func (l *Log) name(number int) string { return l.path + "." + strconv.Itoa(number) }

func (l *Log) remove(number int) error {
	if err := os.Remove(l.name(number)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
