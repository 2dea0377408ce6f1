package stream

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/towline/towline/stream/outputlog"
	"github.com/towline/towline/stream/waiting"
)

// A Topic has the events of one job: a record of numbered frames, none of which
// is dropped, the layers of the present attempt, and the log of what its program
// prints. A reader is a position in each of them. So a topic holds nothing for
// its readers, and a slow or stopped one costs and delays nobody.
// Its methods may be called from anywhere and never wait for a reader.
type Topic struct {
	seq *Sequence

	appending sync.Mutex // held for a whole AppendOutput: never while a reader waits

	mu      sync.Mutex // never held while a file is used
	record  []Frame
	latest  *Latest
	output  *outputlog.Log
	missed  func() Frame
	writing uint64 // the number of the frame that is being written to output; 0 for none
	ended   bool
	until   uint64 // the order of the last frame, once ended
	changed waiting.Changes
	shared  sharedBatch
	first   *Batch // of the reader that came last; nil for none

	log       *EventLog // nil for none
	about     *About    // once it is announced
	unlogged  []Frame   // published before that
	withdrawn bool
}

// NewTopic returns a topic whose frames are numbered by seq. It begins with a
// record of numbered frames, in their order.
func NewTopic(seq *Sequence, record ...Frame) *Topic {
	return &Topic{seq: seq, record: byOrder(record)}
}

// Publish adds a numbered frame, which encode makes for the number it gets.
// After End it does nothing.
func (t *Topic) Publish(encode func(seq uint64) Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		f := encode(t.reserve())
		f.order = f.Seq
		t.record = append(t.record, f)
		t.publish(f)
		t.changed.Numbered()
	}
}

// reserve returns the next number.
func (t *Topic) reserve() uint64 {
	if t.log != nil {
		return t.log.Reserve()
	}
	return t.seq.Next()
}

// publish adds a frame to the event log. The lock is held.
func (t *Topic) publish(f Frame) {
	switch {
	case t.log == nil:
	case t.about == nil && !t.withdrawn:
		t.unlogged = append(t.unlogged, f)
	default:
		t.log.publish(f, t.about)
	}
}

// Announce makes the event log have the topic's frames, those that were
// published before too.
func (t *Topic) Announce(about *About) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.about = about
	if t.log != nil && !t.ended {
		t.log.add(t, about)
	}
	for _, f := range t.unlogged {
		t.publish(f)
	}
	t.unlogged = nil
}

// Withdraw says that the topic will not be announced.
func (t *Topic) Withdraw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.withdrawn = true
	for _, f := range t.unlogged {
		t.publish(f)
	}
	t.unlogged = nil
}

// End adds the last frames, whose numbers were reserved: they are above those of
// the record. After them every reader comes to an end.
func (t *Topic) End(last ...Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	t.record = append(t.record, byOrder(last)...)
	t.until = t.seq.Last()
	if n := len(last); n > 0 {
		t.until = last[n-1].order
	}
	for _, f := range last {
		t.publish(f)
	}
	if t.log != nil {
		t.log.remove(t, t.until)
	}
	if t.latest != nil {
		t.latest.remove(t) // readers read the rest of it at once
	}
	t.changed.Numbered()
}

// ShowLatest makes the topic show the layers of an attempt from now on. It
// replaces those of the attempt before: what readers have not read of them is
// dropped.
func (t *Topic) ShowLatest(l *Latest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	if t.latest != nil {
		t.latest.remove(t)
	}
	t.latest = l
	l.add(t)
	t.changed.Numbered()
}

// SetOutput makes the topic have the frames of a log too. It is called once, and
// before the first reader if the log is not empty. missed makes a frame without
// a number, which stands for frames in a row that are missing in the log. It may
// be called from anywhere.
func (t *Topic) SetOutput(log *outputlog.Log, missed func() Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.output, t.missed = log, missed
	t.changed.Numbered()
}

var errNoOutput = errors.New("the topic has no output log")

// AppendOutput is Publish for a frame that goes to the output log, with the
// offsets that the program's output has after it. It waits for the disk. Only
// readers of this topic wait with it: they get what comes after the frame once
// they have got the frame. An error is that of the disk: the frame is lost, and
// a frame that missed makes takes its place. The next one may well be written.
func (t *Topic) AppendOutput(offsets outputlog.Offsets, encode func(seq uint64) Frame) error {
	t.appending.Lock()
	defer t.appending.Unlock()
	t.mu.Lock()
	output := t.output
	if output == nil || t.ended {
		t.mu.Unlock()
		if output == nil {
			return errNoOutput
		}
		return nil
	}
	seq := t.reserve()
	t.writing = seq
	t.mu.Unlock()
	f := encode(seq)
	f.order = seq
	err := output.Append(f.entry(), offsets)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing = 0
	t.changed.Numbered()
	switch {
	case t.log == nil:
	case err != nil:
		t.log.publish(f, nil)
	default:
		t.log.publish(f, t.about)
	}
	return err
}

// Size returns the size of the record, in bytes. It is what the topic keeps in
// memory for its readers, without the layers.
func (t *Topic) Size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for i := range t.record {
		n += len(t.record[i].data)
	}
	return n
}

// end returns the order of the topic's last frame, once it has ended.
func (t *Topic) end() uint64 {
	if t.ended {
		return t.until
	}
	return math.MaxUint64
}

// written returns the order up to which all output is in its log. Nothing above
// it may be read.
func (t *Topic) written() uint64 {
	last := t.end()
	if t.writing != 0 {
		last = min(last, t.writing-1)
	}
	return last
}

// firstOutput returns the order of the first frame of output, 0 if there is none.
func (t *Topic) firstOutput() uint64 {
	if t.output == nil {
		return 0
	}
	return cmp.Or(t.output.First(), t.writing)
}

// last returns the order of the record's last frame, 0 for none.
func (t *Topic) last() uint64 {
	if n := len(t.record); n > 0 {
		return t.record[n-1].order
	}
	return 0
}

// state returns the latest frame of type "state" up to an order, if there is
// one. The lock is held.
func (t *Topic) state(order uint64) []Frame {
	for _, f := range slices.Backward(upTo(order, t.record)) {
		if f.Type == "state" {
			return []Frame{f}
		}
	}
	return nil
}

// present returns what a reader that comes at an order gets of the record: the
// state, and the last frame if the topic had ended. The lock is held.
func (t *Topic) present(order uint64) []Frame {
	frames := t.state(order)
	if t.ended && len(t.record) > 0 && t.last() <= order {
		frames = append(frames, t.record[len(t.record)-1])
	}
	return frames
}
