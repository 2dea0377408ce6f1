package stream

import (
	"slices"
	"sync"
	"time"
)

// About says which job frames are of, for those who watch many.
type About struct {
	Job, Kind, Image string
}

// A EventLog is what the readers of all jobs are told: the last of their numbered
// frames, in the order of the numbers, and the boards of what is under way. It
// also gives out the numbers: one that was taken holds back those above it until
// its frame is told, so that a reader that has read up to a number has read all
// below it.
// Its methods may be called from anywhere and never wait for a reader.
type EventLog struct {
	seq   *Sequence
	limit int // of each ring, in bytes

	mu      sync.Mutex // taken after a topic's or a board's
	held    []uint64   // numbers taken and not told, in order
	early   []heard    // frames that wait for one of them, in order
	states  ring       // all but output
	output  ring
	boards  []shown
	changed notifier // rings when a numbered frame is told, and at the end
	out     notifier // rings when a board comes out with an edition
	ended   bool
}

// heard is a frame and what it is about.
type heard struct {
	Frame
	about *About
}

// shown is a board, and which of the jobs it is of is named.
type shown struct {
	board  *Latest
	about  *About
	hidden uint64    // when it was, in the Sequence's numbers; 0 if it is not
	at     time.Time // the same
}

// lingering is how long a hidden board can be read, so that what was posted last
// is told.
const lingering = 5 * time.Second

// NewEventLog returns a hub that gives out the numbers of seq, which has been started,
// and keeps limit bytes of frames, and as many of output. It has none of those
// that came before.
func NewEventLog(seq *Sequence, limit int) *EventLog {
	h := &EventLog{seq: seq, limit: limit}
	h.states.floor, h.output.floor = seq.Last(), seq.Last()
	return h
}

// Recall adds a frame of before, above those that were added; what is not above
// floor may not be known. It is called before any number is taken.
func (h *EventLog) Restore(floor uint64, frames []Frame, about []*About) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states.floor = floor
	all := make([]heard, len(frames))
	for i, f := range ordered(frames) {
		all[i] = heard{f, about[i]}
	}
	slices.SortFunc(all, byOrder)
	for _, f := range all {
		if f.order > floor {
			h.states.push(f, h.limit)
		}
	}
}

// Take returns the next number. The frame that gets it is to be told, or the
// number dropped.
func (h *EventLog) Reserve() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	seq := h.seq.Next()
	h.held = append(h.held, seq)
	return seq
}

// Topic returns a topic that gets its numbers from the hub, after the record it
// had before. Its frames are told here too, once it is announced.
func (h *EventLog) Topic(record ...Frame) *Topic {
	t := NewTopic(h.seq, record...)
	t.hub = h
	return t
}

// tell tells a frame whose number was taken; without about, nobody.
func (h *EventLog) tell(f Frame, about *About) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	switch i, ok := slices.BinarySearch(h.held, f.order); {
	case ok && i == 0: // as mostly, and of thousands
		h.held = h.held[1:]
	case ok:
		h.held = slices.Delete(h.held, i, i+1)
	}
	if about != nil {
		one := heard{f, about}
		i, _ := slices.BinarySearchFunc(h.early, one, byOrder)
		h.early = slices.Insert(h.early, i, one)
	}
	n := 0
	for n < len(h.early) && (len(h.held) == 0 || h.early[n].order < h.held[0]) {
		f := h.early[n]
		if f.Type == "log" {
			h.output.push(f, h.limit)
		} else {
			h.states.push(f, h.limit)
		}
		n++
	}
	if n > 0 {
		clear(h.early[:n])
		h.early = h.early[n:]
		h.changed.notify()
	}
}

func byOrder(a, b heard) int {
	switch {
	case a.order < b.order:
		return -1
	case a.order > b.order:
		return 1
	}
	return 0
}

// Show has a board told too, in the name of a job. Where the board is shown
// already, only the name changes.
func (h *EventLog) Show(b *Latest, about *About) {
	b.join(h)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boards = h.lasting()
	for i := range h.boards {
		if h.boards[i].board == b {
			h.boards[i].about = about
			return
		}
	}
	h.boards = append(h.boards, shown{board: b, about: about})
}

// Hide ends the telling of a board.
func (h *EventLog) Hide(b *Latest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boards = h.lasting()
	for i := range h.boards {
		if s := &h.boards[i]; s.board == b && s.hidden == 0 {
			s.hidden, s.at = h.seq.Last(), time.Now()
		}
	}
}

// lasting returns the boards without those hidden long ago, as a slice of its
// own: readers have the old one.
func (h *EventLog) lasting() []shown {
	var kept []shown
	for _, s := range h.boards {
		if s.hidden == 0 || time.Since(s.at) < lingering {
			kept = append(kept, s)
		}
	}
	return kept
}

// cameOut says that a board has an edition to read.
func (h *EventLog) cameOut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out.notify()
}

// told returns the order up to which everything has been told. The lock is held.
func (h *EventLog) told() uint64 {
	if len(h.held) > 0 {
		return h.held[0] - 1
	}
	return h.seq.Last()
}

// End has every reader come to an end.
func (h *EventLog) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.changed.notify()
}

// ring is the last of some frames.
type ring struct {
	frames []heard
	size   int
	floor  uint64 // the order up to which they are not there
}

func (r *ring) push(f heard, limit int) {
	r.frames = append(r.frames, f)
	r.size += frameSize(f)
	n := 0
	for ; r.size > limit && n < len(r.frames)-1; n++ {
		r.size -= frameSize(r.frames[n])
		r.floor = r.frames[n].order
	}
	// Readers have the array, so what is dropped stays in it until it is full.
	r.frames = r.frames[n:]
}

// frameSize is about what a frame takes, in bytes.
func frameSize(f heard) int { return len(f.data) + len(f.docker) + 100 }

// after returns the frames after an order.
func (r *ring) after(order uint64) []heard {
	i := len(r.frames)
	for i > 0 && r.frames[i-1].order > order {
		i--
	}
	return r.frames[i:len(r.frames):len(r.frames)]
}
