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
	// numbered frames never wait. It may be set before the first Next.
	Every time.Duration

	topic    *Topic
	board    *Board
	recordAt uint64 // the order of the last frame read from the record
	boardAt  uint64 // the same for the board
	tapeAt   place
	layersAt time.Time
}

// Next waits until there is something new and returns all of it, in order:
// at least one frame, but none if wait passed without any. Of a tape it is not
// all but a batch of some 256 KiB. After the topic's last frame it returns
// io.EOF, and ctx's error once that is done. Any other error is the disk's: the
// tape could not be read. A reader may go on after it; it has missed nothing.
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
		tape, printed := t.tape, t.printed()
		var reached tip
		if tape != nil {
			reached = tape.tip()
			ended = ended && printed == t.until
		}
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

		var output []Frame
		var more bool
		if tape != nil {
			var err error
			if output, more, err = tape.read(&s.tapeAt, reached, printed, t.missed); err != nil {
				return nil, err
			}
			if more {
				printed = min(printed, s.tapeAt.order)
			}
			record, layers = upTo(printed, record), upTo(printed, layers)
		}

		var due <-chan time.Time
		if early := s.Every - time.Since(s.layersAt); len(layers) > 0 && early > 0 && !ended {
			layers, posted = nil, nil
			due = time.After(early)
		}
		if len(record)+len(layers)+len(output) > 0 {
			if len(record) > 0 {
				s.recordAt = record[len(record)-1].order
			}
			s.passBoard(layers)
			return inOrder(record, layers, output), nil
		}
		if more {
			continue
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

// inOrder merges ordered runs into the order they were published in.
func inOrder(runs ...[]Frame) []Frame {
	all := slices.Concat(runs...)
	slices.SortStableFunc(all, func(a, b Frame) int {
		return cmp.Compare(a.order, b.order)
	})
	return all
}
