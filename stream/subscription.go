package stream

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"
)

// A Subscription is one reader's place in a topic. It is for one goroutine,
// holds no resources and need not be closed.
type Subscription struct {
	// Every is the shortest time between two batches with layers in them;
	// numbered frames never wait. Below LayerInterval it is a LayerInterval. It may be set before
	// the first Next.
	Every time.Duration

	topic    *Topic
	at       cursor
	layersAt time.Time
	idle     *time.Timer
}

// cursor is how far a reader has come.
type cursor struct {
	record  uint64 // the order of the last frame read from the record
	board   *Latest
	layers  uint64  // the same for the board
	edition edition // of the board, that was read
	tape    place
}

// goal is what there is for a reader.
type goal struct {
	record  uint64  // the order of the last frame of the record
	early   bool    // it is too early for layers
	edition edition // of the board
	printed uint64  // up to here all is on the tape that can be told
	tail    uint64  // of the tape
}

// share is what one reader was told on its way from one place to another, for
// those who come the same way.
type share struct {
	from, to cursor
	goal     goal
	batch    *Batch
}

// Next waits until there is something new and returns all of it, in order:
// at least one frame, but no batch if wait passed without any. Of a tape it is
// not all but a batch of some 256 KiB. After the topic's last frame it returns
// io.EOF, and ctx's error once that is done. Any other error is the disk's: the
// tape could not be read. A reader may go on after it; it has missed nothing.
func (s *Subscription) Next(ctx context.Context, wait time.Duration) (*Batch, error) {
	if s.idle == nil {
		s.idle = time.NewTimer(wait)
	} else {
		s.idle.Reset(wait)
	}
	defer s.idle.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := s.topic
		t.mu.Lock()
		if s.at.board != t.board {
			s.at.board, s.at.layers, s.at.edition = t.board, 0, edition{}
		}
		have := material{record: t.record, tape: t.tape, missed: t.missed, end: t.end(), ended: t.ended}
		have.goal = goal{record: t.last(), printed: t.printed()}
		if have.tape != nil {
			have.tip = have.tape.tip()
			have.tail = have.tip.tail
			have.ended = t.ended && have.printed == t.until
		}
		var out <-chan struct{}
		var early time.Duration
		if s.at.board != nil {
			have.edition, out = s.at.board.latest()
			if s.Every > LayerInterval && !have.ended {
				early = s.Every - time.Since(s.layersAt)
			}
			if have.early = early > 0; have.early {
				out = nil
			}
		}
		shared, changed := t.shared, t.changed.wait()
		t.mu.Unlock()

		if shared.batch != nil && shared.from == s.at && shared.goal == have.goal {
			if shared.to.layers != s.at.layers {
				s.layersAt = time.Now()
			}
			s.at = shared.to
			return shared.batch, nil
		}
		from := s.at
		frames, more, err := s.gather(&have)
		if err != nil {
			return nil, err
		}
		if len(frames) > 0 {
			b := NewBatch(frames...)
			t.mu.Lock()
			if t.shared.batch != nil && t.shared.from == from && t.shared.goal == have.goal && t.shared.to == s.at {
				b = t.shared.batch // another reader came first
			} else {
				t.shared = share{from: from, to: s.at, goal: have.goal, batch: b}
			}
			t.mu.Unlock()
			return b, nil
		}
		if more {
			continue
		}
		if have.ended {
			return nil, io.EOF
		}
		var due <-chan time.Time
		if early > 0 {
			due = time.After(early)
		}
		select {
		case <-changed:
		case <-out:
		case <-due:
		case <-s.idle.C:
			return nil, nil
		case <-ctx.Done():
		}
	}
}

// material is what a topic had at some time.
type material struct {
	goal
	record []Frame
	tape   *Tape
	tip    tip
	missed func() Frame
	end    uint64 // nothing is told above this order
	ended  bool   // and all up to it is there
}

// gather reads on to what there is. more says that the tape has more than is
// read at a time. After an error the reader's place is as it was.
func (s *Subscription) gather(have *material) (frames []Frame, more bool, err error) {
	var output []Frame
	whole := have.end // up to here everything can be told
	if have.tape != nil {
		if output, more, err = have.tape.read(&s.at.tape, have.tip, have.printed, have.missed); err != nil {
			return nil, false, err
		}
		whole = have.printed
		if more {
			whole = min(whole, s.at.tape.order)
		}
	}
	var layers []Frame
	if s.at.board != nil && !have.early && (have.edition != s.at.edition || have.ended) {
		layers = s.layers(have.edition, have.ended, whole)
	}
	numbered := upTo(whole, after(have.record, s.at.record))
	if n := len(numbered); n > 0 {
		s.at.record = numbered[n-1].order
	}
	return inOrder(numbered, layers, output), more, nil
}

// layers reads on from the board to an edition, but not above an order. Who has
// read all editions before it reads no further, and so comes to the same place
// as others; all is for who reads no more after this.
func (s *Subscription) layers(e edition, all bool, order uint64) []Frame {
	var there []Frame
	if s.at.edition.number+1 == e.number && !all {
		there = s.at.board.read(e, s.at.layers)
	}
	if there == nil {
		there = s.at.board.after(s.at.layers)
	}
	layers := upTo(order, there)
	if n := len(layers); n > 0 {
		s.at.layers = layers[n-1].order
		s.layersAt = time.Now()
	}
	if len(layers) == len(there) {
		s.at.edition, s.at.layers = e, max(s.at.layers, e.order)
	}
	return layers
}

// after returns the frames after an order.
func after(frames []Frame, order uint64) []Frame {
	i := len(frames)
	for i > 0 && frames[i-1].order > order {
		i--
	}
	return frames[i:len(frames):len(frames)]
}

// upTo drops the frames after an order.
func upTo(order uint64, frames []Frame) []Frame {
	for len(frames) > 0 && frames[len(frames)-1].order > order {
		frames = frames[:len(frames)-1]
	}
	return frames
}

// inOrder merges ordered runs into the order they were published in.
func inOrder(runs ...[]Frame) []Frame {
	all := slices.Concat(runs...)
	slices.SortStableFunc(all, func(a, b Frame) int {
		return cmp.Compare(a.order, b.order)
	})
	return all
}
