package stream

import (
	"cmp"
	"errors"
	"math"
	"sync"
)

// A Topic is what the readers of one job are told: a record of numbered
// frames, none of which is dropped, the board of the attempt that is under
// way, and the tape of what its program prints. A reader is a place in each of
// them, so a topic holds nothing for its readers, and a slow or stopped one
// costs and delays nobody.
// Its methods may be called from anywhere and never wait for a reader.
type Topic struct {
	seq *Sequence

	mu       sync.Mutex // never held while a file is used
	record   []Frame
	board    *Latest
	tape     *Tape
	missed   func() Frame
	printing uint64 // the frame that is being written to the tape; 0 for none
	ended    bool
	until    uint64 // the order after which nothing is told, once ended
	changed  notifier
	shared   share // what was read last

	hub     *EventLog // nil for none
	about   *About    // once it is announced
	unheard []Frame
}

// NewTopic returns a topic whose frames are numbered by seq, after the record
// of numbered frames, in their order, that it had before.
func NewTopic(seq *Sequence, record ...Frame) *Topic {
	return &Topic{seq: seq, record: ordered(record)}
}

// ordered gives numbered frames their place: it is their number.
func ordered(frames []Frame) []Frame {
	for i := range frames {
		frames[i].order = frames[i].Seq
	}
	return frames
}

// Publish adds a numbered frame, which encode makes for the number it is
// given. After End it does nothing.
func (t *Topic) Publish(encode func(seq uint64) Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		f := encode(t.number())
		f.order = f.Seq
		t.record = append(t.record, f)
		t.tell(f)
		t.changed.notify()
	}
}

// number returns the next number.
func (t *Topic) number() uint64 {
	if t.hub != nil {
		return t.hub.Reserve()
	}
	return t.seq.Next()
}

// tell tells the hub of a frame. The lock is held.
func (t *Topic) tell(f Frame) {
	switch {
	case t.hub == nil:
	case t.about == nil:
		t.unheard = append(t.unheard, f)
	default:
		t.hub.tell(f, t.about)
	}
}

// Announce has the hub tell of the topic: what was published, and what will be.
func (t *Topic) Announce(about *About) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.about = about
	for _, f := range t.unheard {
		t.tell(f)
	}
	t.unheard = nil
}

// Withdraw says that the topic will not be announced.
func (t *Topic) Withdraw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.unheard {
		t.hub.tell(f, nil)
	}
	t.unheard = nil
}

// End adds the last frames, which have had their numbers since before: they
// are above those of the record. After them every reader comes to an end.
func (t *Topic) End(last ...Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended = true
		t.record = append(t.record, ordered(last)...)
		t.until = t.seq.Last()
		if n := len(last); n > 0 {
			t.until = last[n-1].order
		}
		for _, f := range last {
			t.tell(f)
		}
		t.changed.notify()
	}
}

// Show makes the topic show a board from now on, in the place of the one
// before; what readers had not yet read of that is dropped.
func (t *Topic) ShowLatest(b *Latest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.board = b
		t.changed.notify()
	}
}

// Play makes the topic tell what is on a tape too. It is called once; before the
// first reader if there is something on the tape. For a reader that is so slow
// that frames were dropped before it came to them, or that comes to some that
// could not be written, missed makes one frame without a number in the place of
// them all; it may be called from anywhere.
func (t *Topic) SetOutput(tape *Tape, missed func() Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tape, t.missed = tape, missed
	t.changed.notify()
}

// ErrNoTape is what Print returns in a topic that plays none.
var ErrNoOutput = errors.New("there is no tape to print on")

// Print is Publish for a frame that goes on the tape, with a mark. It waits for
// the disk, and only readers of this topic wait with it: they are not told what
// comes after the frame before they are told the frame. An error is that of the
// disk: the frame is lost, readers are told that it is, and the next one may
// well be written.
func (t *Topic) AppendOutput(mark Mark, encode func(seq uint64) Frame) error {
	t.mu.Lock()
	tape := t.tape
	t.mu.Unlock()
	if tape == nil {
		return ErrNoOutput
	}
	tape.writing.Lock()
	defer tape.writing.Unlock()
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return nil
	}
	seq := t.number()
	t.printing = seq
	t.mu.Unlock()
	f := encode(seq)
	f.order = seq
	err := tape.append(f, mark)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printing = 0
	t.changed.notify()
	switch {
	case t.hub == nil:
	case err != nil:
		t.hub.tell(f, nil)
	default:
		t.hub.tell(f, t.about)
	}
	return err
}

// Size returns the length of what the topic keeps in memory for its readers: of
// the frames of its record, in bytes. The tape and the board are not in it.
func (t *Topic) Size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for i := range t.record {
		n += len(t.record[i].data) + len(t.record[i].docker)
	}
	return n
}

// end returns the order after which nothing is told.
func (t *Topic) end() uint64 {
	if t.ended {
		return t.until
	}
	return math.MaxUint64
}

// printed returns up to which order all is on the tape that can be told.
func (t *Topic) printed() uint64 {
	last := t.end()
	if t.printing != 0 {
		last = min(last, t.printing-1)
	}
	return last
}

// output returns the order of the first frame of the tape, 0 if there is none.
func (t *Topic) output() uint64 {
	if t.tape == nil {
		return 0
	}
	return cmp.Or(t.tape.first(), t.printing)
}
