package stream

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"
)

// A LogSubscription is one reader's place in a hub. It is for one goroutine, holds no
// resources and need not be closed.
type LogSubscription struct {
	// Every is the shortest time between two batches with layers in them, but
	// that a result comes with the layers before it. Below LayerInterval it is a LayerInterval.
	// It may be set before the first Next.
	Every time.Duration

	hub      *EventLog
	match    func(*About) bool
	missed   func() Frame
	at       uint64 // everything up to this order was read
	boards   map[*Latest]reading
	layersAt time.Time
	idle     *time.Timer
}

// reading is how far a listener has read a board.
type reading struct {
	layers  uint64
	edition edition
}

// ErrBehind is what a listener gets whose place is not kept any more. It begins
// anew.
var ErrBehind = errors.New("the reader's place is not kept any more")

// Listen returns every layer of the boards that match chooses, and a LogSubscription
// that goes on from there. What has a number follows after the order that is
// returned. missed makes one frame, without a number, in the place of output
// that is not kept for the reader any more.
func (h *EventLog) Listen(match func(*About) bool, missed func() Frame) (layers []Frame, at uint64, l *LogSubscription) {
	h.mu.Lock()
	at = h.told()
	h.mu.Unlock()
	return h.listen(match, missed, at)
}

// Resume is Listen for a reader that has read up to seq: it gets every numbered
// frame after that from the LogSubscription. The error is ErrBehind.
func (h *EventLog) Resume(match func(*About) bool, missed func() Frame, seq uint64) ([]Frame, *LogSubscription, error) {
	h.mu.Lock()
	lost := seq < h.states.floor || seq > h.seq.Last()
	h.mu.Unlock()
	if lost {
		return nil, nil, ErrBehind
	}
	layers, _, l := h.listen(match, missed, seq)
	return layers, l, nil
}

func (h *EventLog) listen(match func(*About) bool, missed func() Frame, at uint64) ([]Frame, uint64, *LogSubscription) {
	l := &LogSubscription{hub: h, match: match, missed: missed, at: at, boards: make(map[*Latest]reading)}
	h.mu.Lock()
	boards := h.boards
	h.mu.Unlock()
	return l.layers(boards), at, l
}

// At returns the number up to which the reader has been told everything.
func (l *LogSubscription) At() uint64 { return l.at }

// Next is as Subscription.Next; its error may be ErrBehind, and is never the
// disk's. The frames have their jobs filled in.
func (l *LogSubscription) Next(ctx context.Context, wait time.Duration) (*Batch, error) {
	if l.idle == nil {
		l.idle = time.NewTimer(wait)
	} else {
		l.idle.Reset(wait)
	}
	defer l.idle.Stop()
	h := l.hub
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h.mu.Lock()
		states, output := h.states.after(l.at), h.output.after(l.at)
		behind, missed := l.at < h.states.floor, l.at < h.output.floor
		told, boards, ended := h.told(), h.boards, h.ended
		changed, out := h.changed.wait(), h.out.wait()
		h.mu.Unlock()

		if behind {
			return nil, ErrBehind
		}
		var frames []Frame
		result := false
		for _, f := range slices.Concat(states, output) {
			if l.match(f.about) {
				frames = append(frames, f.Frame)
				result = result || f.Type == "result"
			}
		}
		if missed && slices.ContainsFunc(output, func(f heard) bool { return l.match(f.about) }) {
			f := l.missed()
			f.order = l.at
			frames = append(frames, f)
		}
		l.at = max(l.at, told)
		early := max(l.Every, LayerInterval) - time.Since(l.layersAt)
		if early <= 0 || result {
			frames = append(frames, l.layers(boards)...)
			early = 0
		}
		if len(frames) > 0 {
			return NewBatch(inOrder(frames)...), nil
		}
		if ended {
			return nil, io.EOF
		}
		var due <-chan time.Time
		if early > 0 {
			due, out = time.After(early), nil
		}
		select {
		case <-changed:
		case <-out:
		case <-due:
		case <-l.idle.C:
			return nil, nil
		case <-ctx.Done():
		}
	}
}

// layers reads on from the boards.
func (l *LogSubscription) layers(boards []shown) []Frame {
	var all []Frame
	for _, s := range boards {
		if !l.match(s.about) {
			continue
		}
		at, end := l.boards[s.board], uint64(math.MaxUint64)
		last, _ := s.board.latest()
		if s.hidden != 0 {
			end = s.hidden
		} else if last == at.edition {
			continue
		}
		frames := upTo(end, s.board.after(at.layers))
		at.edition = last
		if n := len(frames); n > 0 {
			at.layers = frames[n-1].order
		}
		l.boards[s.board] = at
		for _, f := range frames {
			all = append(all, f.named(s.about.Job))
		}
	}
	if len(l.boards) > 2*len(boards)+16 {
		for b := range l.boards {
			if !slices.ContainsFunc(boards, func(s shown) bool { return s.board == b }) {
				delete(l.boards, b)
			}
		}
	}
	if len(all) > 0 {
		l.layersAt = time.Now()
	}
	return all
}
