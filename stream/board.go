package stream

import (
	"slices"
	"sync"
	"time"
)

// LayerInterval is the shortest time between two wake-ups of a reader for layers: an
// engine tells of each layer ten times a second.
const LayerInterval = 100 * time.Millisecond

// A Latest shows the latest frame of each layer of one attempt. It is where
// progress is conflated: its size follows the number of layers, not of events.
// What was posted comes out in editions, one a LayerInterval at most, so that all
// readers who keep up read the same at the same time, and can share it.
// Many topics may show one board. Its methods may be called from anywhere and
// never wait for a reader.
type Latest struct {
	seq *Sequence

	mu      sync.Mutex
	frames  []Frame // one a layer; the one posted last comes last
	ids     []string
	edition edition // that came out last
	fresh   []Frame // what it has that was posted since the one before
	at      time.Time
	due     bool      // the next one is going to come out
	out     notifier  // rings when it does
	hub     *EventLog // that is told, too
}

// NewLatest returns an empty board whose frames are ordered by seq.
func NewLatest(seq *Sequence) *Latest {
	return &Latest{seq: seq}
}

// Post replaces the layer's frame.
func (b *Latest) Set(id string, f Frame) {
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
	if early := LayerInterval - time.Since(b.at); early > 0 {
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

func (b *Latest) comeOut() {
	// A copy: a frame may be replaced before everyone has read it.
	b.fresh = slices.Clone(after(b.frames, b.edition.order))
	b.edition, b.at, b.due = edition{b.edition.number + 1, b.frames[len(b.frames)-1].order}, time.Now(), false
	b.out.notify()
	if b.hub != nil {
		b.hub.cameOut()
	}
}

// join has a hub told when an edition comes out.
func (b *Latest) join(h *EventLog) {
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
func (b *Latest) latest() (last edition, next <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.edition, b.out.wait()
}

// after returns the frames posted after the one of the given order.
func (b *Latest) after(order uint64) []Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(after(b.frames, order))
}

// read returns what is in an edition for who has read the one before it, up to
// an order; nil if another one has come out.
func (b *Latest) read(e edition, order uint64) []Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.edition != e {
		return nil
	}
	return after(b.fresh, order)
}
