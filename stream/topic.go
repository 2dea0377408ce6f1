package stream

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

// A Topic is what the readers of one job are told: a record of numbered
// frames, none of which is dropped, and the board of the attempt that is under
// way. A reader is a place in the record and in the board, so a topic holds
// nothing for its readers, and a slow or stopped one costs and delays nobody.
// Its methods may be called from anywhere and never wait for a reader.
type Topic struct {
	seq *Sequence

	mu      sync.Mutex
	record  []Frame
	board   *Board
	ended   bool
	changed chan struct{} // closed at the next change
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

func (t *Topic) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Subscribe returns the present state as a snapshot (the latest frame of type
// "state", every layer, and the last frame if the topic has ended) and the
// Subscription that goes on from there, with nothing missed or told twice.
func (t *Topic) Subscribe() ([]Frame, *Subscription) {
	return t.subscribe(func() []Frame {
		var present []Frame
		for i := len(t.record) - 1; i >= 0; i-- {
			if t.record[i].Type == "state" {
				present = append(present, t.record[i])
				break
			}
		}
		if t.ended {
			present = append(present, t.record[len(t.record)-1])
		}
		return present
	})
}

// Resume is Subscribe for a reader that has read up to seq: it gets every
// numbered frame after that, and every layer at its latest.
func (t *Topic) Resume(seq uint64) ([]Frame, *Subscription) {
	return t.subscribe(func() []Frame { return t.after(seq) })
}

func (t *Topic) subscribe(record func() []Frame) ([]Frame, *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
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
	return inOrder(record(), layers), s
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
	last := t.record[len(t.record)-1].order
	for len(layers) > 0 && layers[len(layers)-1].order > last {
		layers = layers[:len(layers)-1]
	}
	return layers
}

// A Subscription is one reader's place in a topic. It is for one goroutine,
// holds no resources and need not be closed.
type Subscription struct {
	// Every is the shortest time between two batches with layers in them;
	// numbered frames never wait. It may be set before the first Next.
	Every time.Duration

	topic    *Topic
	board    *Board
	recordAt uint64 // the order of the last frame read from the record
	boardAt  uint64 // the same for the board
	layersAt time.Time
}

// Next waits until there is something new and returns all of it, in order:
// at least one frame, but none if wait passed without any. After the topic's
// last frame it returns io.EOF, and ctx's error once that is done.
func (s *Subscription) Next(ctx context.Context, wait time.Duration) ([]Frame, error) {
	idle := time.NewTimer(wait)
	defer idle.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := s.topic
		t.mu.Lock()
		record, ended, changed := t.after(s.recordAt), t.ended, t.changed
		if s.board != t.board {
			s.board, s.boardAt = t.board, 0
		}
		var layers []Frame
		var posted <-chan struct{}
		if s.board != nil {
			layers, posted = s.board.after(s.boardAt)
			layers = t.beforeEnd(layers)
		}
		t.mu.Unlock()

		var due <-chan time.Time
		if early := s.Every - time.Since(s.layersAt); len(layers) > 0 && early > 0 && !ended {
			layers, posted = nil, nil
			due = time.After(early)
		}
		if len(record)+len(layers) > 0 {
			if len(record) > 0 {
				s.recordAt = record[len(record)-1].order
			}
			s.passBoard(layers)
			return inOrder(record, layers), nil
		}
		if ended {
			return nil, io.EOF
		}
		select {
		case <-changed:
		case <-posted:
		case <-due:
		case <-idle.C:
			return nil, nil
		case <-ctx.Done():
		}
	}
}

func (s *Subscription) passBoard(layers []Frame) {
	if len(layers) > 0 {
		s.boardAt = layers[len(layers)-1].order
		s.layersAt = time.Now()
	}
}

// inOrder merges two ordered runs into the order they were published in.
func inOrder(record, layers []Frame) []Frame {
	all := slices.Concat(record, layers)
	slices.SortStableFunc(all, func(a, b Frame) int {
		return cmp.Compare(a.order, b.order)
	})
	return all
}
