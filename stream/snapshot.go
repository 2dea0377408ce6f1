package stream

import (
	"math"
	"slices"
)

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
	if output == 0 {
		present := t.state(math.MaxUint64)
		if t.ended {
			present = append(present, t.record[len(t.record)-1])
		}
		return t.subscribe(present)
	}
	present := t.state(output - 1)
	s := &Subscription{topic: t}
	if len(present) > 0 {
		s.at.record = present[0].order
	}
	return inOrder(present, s.open(output)), s
}

// Resume is Subscribe for a reader that has read up to seq: it gets every
// numbered frame after that, and every layer at its latest. If there is
// something on the tape, all of that comes from the Subscription.
func (t *Topic) Resume(seq uint64) ([]Frame, *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.output() == 0 {
		return t.subscribe(after(t.record, seq))
	}
	return nil, &Subscription{topic: t, at: cursor{record: seq, tape: t.tape.seek(seq)}}
}

// subscribe returns frames of the record with the layers, and what goes on from
// there. There is nothing on the tape.
func (t *Topic) subscribe(record []Frame) ([]Frame, *Subscription) {
	s := &Subscription{topic: t}
	s.at.record = t.last()
	return inOrder(record, s.open(t.end())), s
}

// open has a reader begin with the layers up to an order. The topic's lock is
// held.
func (s *Subscription) open(order uint64) []Frame {
	s.at.board = s.topic.board
	if s.at.board == nil {
		return nil
	}
	last, _ := s.at.board.latest()
	return s.layers(last, true, order)
}

// last returns the order of the record's last frame, 0 for none.
func (t *Topic) last() uint64 {
	if n := len(t.record); n > 0 {
		return t.record[n-1].order
	}
	return 0
}

// State returns the latest frame of type "state" up to an order, if there is
// one.
func (t *Topic) State(order uint64) []Frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state(order)
}

// state is State for who holds the lock.
func (t *Topic) state(order uint64) []Frame {
	for _, f := range slices.Backward(upTo(order, t.record)) {
		if f.Type == "state" {
			return []Frame{f}
		}
	}
	return nil
}
