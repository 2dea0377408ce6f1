package stream

import (
	"slices"
	"sync"
	"time"
)

// Beat is the shortest time between two wake-ups of a reader for layers: an
// engine tells of each layer ten times a second.
const Beat = 100 * time.Millisecond

// A Board shows the latest frame of each layer of one attempt. It is where
// progress is conflated: its size follows the number of layers, not of events.
// What was posted comes out in editions, one a Beat at most, so that all
// readers who keep up read the same at the same time, and can share it.
// Many topics may show one board. Its methods may be called from anywhere and
// never wait for a reader.
type Board struct {
	seq *Sequence

	mu      sync.Mutex
	frames  []Frame // one a layer; the one posted last comes last
	ids     []string
	edition edition // that came out last
	fresh   []Frame // what it has that was posted since the one before
	at      time.Time
	due     bool // the next one is going to come out
	out     bell // rings when it does
	hub     *Hub // that is told, too
}

// NewBoard returns an empty board whose frames are ordered by seq.
func NewBoard(seq *Sequence) *Board {
	return &Board{seq: seq}
}

// Post replaces the layer's frame.
func (b *Board) Post(id string, f Frame) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// What is worked on was posted of late: a prewarm's board has thousands.
	for i := len(b.ids) - 1; i >= 0; i-- {
		if b.ids[i] == id {
			b.ids = append(b.ids[:i], b.ids[i+1:]...)
			b.frames = append(b.frames[:i], b.frames[i+1:]...)
			break
		}
	}
	f.order = b.seq.Next()
	b.ids = append(b.ids, id)
	b.frames = append(b.frames, f)
	if b.due {
		return
	}
	if early := Beat - time.Since(b.at); early > 0 {
		b.due = true
		time.AfterFunc(early, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.comeOut()
		})
		return
	}
	b.comeOut()
}

func (b *Board) comeOut() {
	// A copy: a frame may be replaced before everyone has read it.
	b.fresh = slices.Clone(after(b.frames, b.edition.order))
	b.edition, b.at, b.due = edition{b.edition.number + 1, b.frames[len(b.frames)-1].order}, time.Now(), false
	b.out.ring()
	if b.hub != nil {
		b.hub.cameOut()
	}
}

// join has a hub told when an edition comes out.
func (b *Board) join(h *Hub) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hub = h
}

// edition is what had been posted at some time. The zero edition is nothing.
type edition struct {
	number uint64
	order  uint64 // of the last frame in it
}

// latest returns the edition that came out last, and a channel that is closed
// when the next one does.
func (b *Board) latest() (last edition, next <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.edition, b.out.wait()
}

// after returns the frames posted after the one of the given order.
func (b *Board) after(order uint64) []Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(after(b.frames, order))
}

// read returns what is in an edition for who has read the one before it, up to
// an order; nil if another one has come out.
func (b *Board) read(e edition, order uint64) []Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.edition != e {
		return nil
	}
	return after(b.fresh, order)
}
