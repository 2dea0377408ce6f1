package stream

import "sync"

// A Board shows the latest frame of each layer of one attempt. It is where
// progress is conflated: its size follows the number of layers, not of events.
// Many topics may show one board. Its methods may be called from anywhere and
// never wait for a reader.
type Board struct {
	seq *Sequence

	mu     sync.Mutex
	frames []Frame // one a layer; the one posted last comes last
	ids    []string
	posted chan struct{} // closed at the next post
}

// NewBoard returns an empty board whose frames are ordered by seq.
func NewBoard(seq *Sequence) *Board {
	return &Board{seq: seq, posted: make(chan struct{})}
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
	close(b.posted)
	b.posted = make(chan struct{})
}

// after returns the frames posted after the one of the given order, and a
// channel that is closed at the next post.
func (b *Board) after(order uint64) ([]Frame, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := len(b.frames)
	for i > 0 && b.frames[i-1].order > order {
		i--
	}
	return append([]Frame(nil), b.frames[i:]...), b.posted
}
