package stream

import (
	"cmp"
	"errors"
	"math"
	"slices"
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
	board    *Board
	tape     *Tape
	missed   func() Frame
	printing uint64 // the frame that is being written to the tape; 0 for none
	ended    bool
	until    uint64        // the order after which nothing is told, once ended
	changed  chan struct{} // closed at the next change
}

// NewTopic returns a topic whose frames are numbered by seq, after the record
// of numbered frames, in their order, that it had before.
func NewTopic(seq *Sequence, record ...Frame) *Topic {
	return &Topic{seq: seq, record: ordered(record), changed: make(chan struct{})}
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
		f := encode(t.seq.Next())
		t.record = append(t.record, ordered([]Frame{f})...)
		t.wake()
	}
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
		t.wake()
	}
}

// Show makes the topic show a board from now on, in the place of the one
// before; what readers had not yet read of that is dropped.
func (t *Topic) Show(b *Board) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.board = b
		t.wake()
	}
}

// Play makes the topic tell what is on a tape too. It is called once; before the
// first reader if there is something on the tape. For a reader that is so slow
// that frames were dropped before it came to them, or that comes to some that
// could not be written, missed makes one frame without a number in the place of
// them all; it may be called from anywhere.
func (t *Topic) Play(tape *Tape, missed func() Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tape, t.missed = tape, missed
	t.wake()
}

// ErrNoTape is what Print returns in a topic that plays none.
var ErrNoTape = errors.New("there is no tape to print on")

// Print is Publish for a frame that goes on the tape, with a mark. It waits for
// the disk, and only readers of this topic wait with it: they are not told what
// comes after the frame before they are told the frame. An error is that of the
// disk: the frame is lost, readers are told that it is, and the next one may
// well be written.
func (t *Topic) Print(mark Mark, encode func(seq uint64) Frame) error {
	t.mu.Lock()
	tape := t.tape
	t.mu.Unlock()
	if tape == nil {
		return ErrNoTape
	}
	tape.writing.Lock()
	defer tape.writing.Unlock()
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return nil
	}
	seq := t.seq.Next()
	t.printing = seq
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.printing = 0
		t.wake()
	}()
	f := encode(seq)
	f.order = seq
	return tape.append(f, mark)
}

// printed returns up to which order all is on the tape that can be told.
func (t *Topic) printed() uint64 {
	last := uint64(math.MaxUint64)
	if t.ended {
		last = t.until
	}
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

func (t *Topic) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Subscribe returns the present state as a snapshot (the latest frame of type
// "state", every layer, and the last frame if the topic has ended) and the
// Subscription that goes on from there, with nothing missed or told twice.
// If there is something on the tape, it is the state as it was before that, and
// all that came since follows, so that a reader gets the output from where it
// is kept, every frame in its order, and can resume from any.
func (t *Topic) Subscribe() ([]Frame, *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	output := t.output()
	var present []Frame
	for _, f := range slices.Backward(t.record) {
		if f.Type == "state" && (output == 0 || f.order < output) {
			present = append(present, f)
			break
		}
	}
	if output == 0 {
		if t.ended {
			present = append(present, t.record[len(t.record)-1])
		}
		return t.subscribe(present)
	}
	s := &Subscription{topic: t, board: t.board}
	if len(present) > 0 {
		s.recordAt = present[0].order
	}
	var layers []Frame
	if t.board != nil {
		layers, _ = t.board.after(0)
		layers = upTo(output, layers)
		s.passBoard(layers)
	}
	return inOrder(present, layers), s
}

// Resume is Subscribe for a reader that has read up to seq: it gets every
// numbered frame after that, and every layer at its latest. If there is
// something on the tape, all of that comes from the Subscription.
func (t *Topic) Resume(seq uint64) ([]Frame, *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.output() == 0 {
		return t.subscribe(t.after(seq))
	}
	return nil, &Subscription{topic: t, board: t.board, recordAt: seq, tapeAt: t.tape.seek(seq)}
}

// subscribe returns frames of the record with the layers, and what goes on from
// there. There is nothing on the tape.
func (t *Topic) subscribe(record []Frame) ([]Frame, *Subscription) {
	s := &Subscription{topic: t, board: t.board}
	if n := len(t.record); n > 0 {
		s.recordAt = t.record[n-1].order
	}
	var layers []Frame
	if t.board != nil {
		layers, _ = t.board.after(0)
		layers = t.beforeEnd(layers)
		s.passBoard(layers)
	}
	return inOrder(record, layers), s
}

// after returns the record after a frame's order, which for numbered frames
// is their number.
func (t *Topic) after(order uint64) []Frame {
	i := len(t.record)
	for i > 0 && t.record[i-1].order > order {
		i--
	}
	return t.record[i:len(t.record):len(t.record)]
}

// beforeEnd drops layers that were posted after the topic's last frame: a
// board can outlive one of its topics.
func (t *Topic) beforeEnd(layers []Frame) []Frame {
	if !t.ended {
		return layers
	}
	return upTo(t.record[len(t.record)-1].order, layers)
}

// upTo drops the frames after an order.
func upTo(order uint64, frames []Frame) []Frame {
	for len(frames) > 0 && frames[len(frames)-1].order > order {
		frames = frames[:len(frames)-1]
	}
	return frames
}
