package stream

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
	// segments is how many files a tape has at most. When one more is needed,
	// the one with the oldest frames is dropped.
	segments = 4
	// tapeBatch is how much of a tape is read at a time, in bytes.
	tapeBatch = 256 << 10
)

// A Tape keeps numbered frames in files, so that there may be more of them than
// memory has room for: up to a limit, above which the oldest are dropped. Each
// frame is written once, at once and without fsync: what was written outlasts
// the process, however that ends, but not always the machine. A Topic plays a
// tape to its readers, and is the one that writes to it.
//
// A tape holds one file open, while it is written. Readers open what they read
// each time, so they hold nothing and hold nobody up.
type Tape struct {
	path string
	size int64 // of a segment, at most

	writing sync.Mutex // held for a whole Print: never while a reader waits
	file    *os.File   // the last segment; nil if the tape is not written
	buf     []byte
	lost    bool // the last frame could not be written

	mu   sync.Mutex // never held while a file is used
	reel []segment  // oldest first
	tail uint64     // the order of the last frame, written or not; 0 for none
	mark Mark
}

// A Mark says how far a tape's frames have come in what they tell of: of two
// sources, how much of each, in the writer's own measure.
type Mark [2]uint64

// segment is one of a tape's files.
type segment struct {
	id    int    // grows from one to the next
	slot  int    // its number in the file's name
	size  int64  // of the entries in it
	first uint64 // the order of the first, 0 for none
}

// CreateTape makes an empty tape in the files path.0 to path.3, in the place of
// one that is there. They have limit bytes at most; a frame that has more than
// a quarter of that, or 1 MiB, does not fit.
func CreateTape(path string, limit int64) (*Tape, error) {
	if err := RemoveTape(path); err != nil {
		return nil, err
	}
	t := &Tape{path: path, size: limit / segments}
	if err := t.turn(); err != nil {
		return nil, err
	}
	return t, nil
}

// OpenTape goes on with a tape that an earlier process has left, however it
// ended: a frame that it did not write to its end is cut off. The error is
// fs.ErrNotExist where there is no tape.
func OpenTape(path string, limit int64) (*Tape, error) {
	t, err := ReadTape(path)
	if err != nil {
		return nil, err
	}
	t.size = limit / segments
	if len(t.reel) == 0 {
		if err := t.turn(); err != nil {
			return nil, err
		}
		return t, nil
	}
	last := &t.reel[len(t.reel)-1]
	file, err := os.OpenFile(t.name(last.slot), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	whole := int64(0)
	for whole < last.size {
		entries, err := readEntries(file, whole, last.size, tapeBatch)
		if err != nil {
			file.Close()
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		e := entries[len(entries)-1]
		whole, t.tail, t.mark = e.end, e.order, e.mark
	}
	if err := file.Truncate(whole); err != nil {
		file.Close()
		return nil, err
	}
	last.size, t.file = whole, file
	return t, nil
}

// ReadTape is OpenTape for a tape that is not written any more. It costs little
// however long the tape is, holds no file open and need not be closed.
func ReadTape(path string) (*Tape, error) {
	t := &Tape{path: path}
	missing := 0
	for slot := range segments {
		s, err := t.find(slot)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return nil, err
		case s.first != 0:
			t.reel = append(t.reel, s)
		}
	}
	if missing == segments {
		return nil, fmt.Errorf("tape %s: %w", path, fs.ErrNotExist)
	}
	slices.SortFunc(t.reel, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	for i := range t.reel {
		t.reel[i].id = i
	}
	return t, nil
}

// LostTape stands for a tape whose files were removed: up to an order, readers
// miss all of it.
func LostTape(order uint64) *Tape { return &Tape{tail: order} }

// Size returns how many bytes the tape's files have.
func (t *Tape) Size() (size int64) {
	for _, s := range t.tip().reel {
		size += s.size
	}
	return size
}

// find looks at the file of a slot.
func (t *Tape) find(slot int) (segment, error) {
	s := segment{slot: slot}
	file, err := os.Open(t.name(slot))
	if err != nil {
		return s, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return s, err
	}
	s.size = info.Size()
	entries, err := readEntries(file, 0, s.size, 4<<10)
	if len(entries) > 0 {
		s.first = entries[0].order
	}
	return s, err
}

// RemoveTape removes a tape's files. It is no error if there are none. Those
// who read it get what they have read.
func RemoveTape(path string) error {
	t := &Tape{path: path}
	var all []error
	for slot := range segments {
		all = append(all, t.remove(slot))
	}
	return errors.Join(all...)
}

func (t *Tape) name(slot int) string { return t.path + "." + strconv.Itoa(slot) }

func (t *Tape) remove(slot int) error {
	if err := os.Remove(t.name(slot)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Mark returns the mark of the last frame that is on the tape.
func (t *Tape) Mark() Mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mark
}

// Whole reports whether everything that was told is still on the tape.
func (t *Tape) Whole() bool {
	for _, s := range t.tip().reel {
		if s.first != 0 {
			entries, err := t.entries(s, 0)
			return err == nil && len(entries) > 0 && entries[0].prev == 0
		}
	}
	return true
}

// Close ends the writing. The tape can still be read. The error is of no
// consequence but that it may not be known later that the last frames, which
// could not be written, are missing.
func (t *Tape) Close() error {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.file == nil {
		return nil
	}
	var err error
	if t.lost {
		e := entry{prev: t.tail, mark: t.mark}
		e.order = t.tail
		err = t.write(&e)
	}
	err = errors.Join(err, t.file.Close())
	t.file = nil
	return err
}

// append adds a frame, whose order is above that of the one before. After an
// error the frame is one that readers miss, and the tape is as it was. writing
// is held.
func (t *Tape) append(f Frame, mark Mark) error {
	err := t.write(&entry{Frame: f, prev: t.tail, mark: mark})
	t.lost = err != nil
	t.mu.Lock()
	t.tail = f.order
	t.mu.Unlock()
	return err
}

func (t *Tape) write(e *entry) error {
	if t.file == nil {
		return fmt.Errorf("tape %s: %w", t.path, fs.ErrClosed)
	}
	t.buf = appendEntry(t.buf[:0], e)
	n := int64(len(t.buf))
	if n > t.size || len(e.data) > maxData || len(e.Type) > 255 {
		return fmt.Errorf("tape %s: a frame of %d bytes does not fit", t.path, len(e.data))
	}
	last := &t.reel[len(t.reel)-1]
	if last.size > 0 && last.size+n > t.size {
		if err := t.turn(); err != nil {
			return err
		}
		last = &t.reel[len(t.reel)-1]
	}
	if _, err := t.file.WriteAt(t.buf, last.size); err != nil {
		// What was written of it is overwritten by the next one. That it is
		// cut off here is for those who read the file after a crash.
		t.file.Truncate(last.size)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if last.size += n; last.first == 0 {
		last.first = e.order
	}
	t.mark = e.mark
	return nil
}

// turn begins the next segment, and first drops the oldest if there are enough.
// After an error the one before is still written.
func (t *Tape) turn() error {
	next := segment{}
	if n := len(t.reel); n > 0 {
		next.id = t.reel[n-1].id + 1
	}
	t.mu.Lock()
	if len(t.reel) == segments {
		t.reel = slices.Delete(t.reel, 0, 1)
	}
	t.mu.Unlock()
	for slices.ContainsFunc(t.reel, func(s segment) bool { return s.slot == next.slot }) {
		next.slot++
	}
	// A new file, so that who is reading the old one reads that.
	if err := t.remove(next.slot); err != nil {
		return err
	}
	file, err := os.OpenFile(t.name(next.slot), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if t.file != nil {
		t.file.Close()
	}
	t.file = file
	t.mu.Lock()
	t.reel = append(t.reel, next)
	t.mu.Unlock()
	return nil
}
