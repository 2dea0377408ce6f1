package stream

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/towline/towline/stream/outputlog"
	"github.com/towline/towline/stream/waiting"
)

// A Subscription is a reader's position in a topic. It is for one goroutine,
// holds no resources and need not be closed.
type Subscription struct {
	// Every is the shortest time between two batches with layers in them;
	// numbered frames never wait. Below LayerInterval it is a LayerInterval. It
	// may be set before the first Next.
	Every time.Duration

	topic    *Topic
	at       position
	layersAt time.Time
	idle     waiting.Deadline
}

// position is how far a reader has read a topic. Readers at equal positions can
// share what comes next.
type position struct {
	// present is the order of the record's last frame when the reader came,
	// until the reader has got the state that the job had then; 0 after that.
	present uint64
	record  uint64 // the order of the last frame read from the record
	latest  *Latest
	layers  uint64  // the same for the layers
	version version // of latest, that was read
	output  outputlog.Cursor
}

// extent is how much there is to read in a topic.
type extent struct {
	record  uint64  // the order of the last frame of the record
	wait    bool    // Every asks to wait for layers
	version version // of the layers
	written uint64  // up to this order all output is in its log
	output  uint64  // the order of the last output
}

// sharedBatch is what one reader got on its way from one position to another,
// for those that come the same way.
type sharedBatch struct {
	from, to position
	extent   extent
	batch    *Batch
}

// source is what a topic has for a reader, as it was at some time.
type source struct {
	extent
	numbered []Frame // of the record, after the reader's position
	later    uint64  // the order of the first frame that comes after those; 0 for none
	log      *outputlog.Log
	snapshot outputlog.Snapshot
	missed   func() Frame
	end      uint64 // the order of the topic's last frame
	ended    bool   // all up to it can be read
	all      bool   // of the layers, those too that no version has yet
}

// Subscribe returns the first frames and the Subscription that goes on from
// there, with nothing missed or repeated. It begins with the present state as a
// snapshot: the latest frame of type "state", every layer, and the last frame if
// the topic has ended. If there is output, it begins with the state before the
// output, and all that came since follows. So a reader gets the output from
// where it is kept, every frame in its order, and can resume from any.
func (t *Topic) Subscribe() ([]Frame, *Subscription) {
	t.mu.Lock()
	s := &Subscription{topic: t}
	first := t.firstOutput()
	if first == 0 {
		s.at.present = t.last()
	} else if state := t.state(first - 1); len(state) > 0 {
		s.at.record = state[0].order - 1
	}
	return s.first(first), s
}

// First returns the frames that a reader began with as a batch. Readers that have come at the
// same state share it: thousands may come at once.
func (s *Subscription) First(frames []Frame) *Batch {
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	// Only frames that a topic or its layers have made have an order, and each has its own.
	same := func(a, b Frame) bool { return a.order != 0 && a.order == b.order && a.Type == b.Type }
	if t.first == nil || !slices.EqualFunc(t.first.frames, frames, same) {
		t.first = NewBatch(frames...)
	}
	return t.first
}

// Resume is Subscribe for a reader that has read up to seq: it gets every
// numbered frame after that, and every layer at its latest. If there is output,
// all comes from the Subscription.
func (t *Topic) Resume(seq uint64) ([]Frame, *Subscription) {
	t.mu.Lock()
	s := &Subscription{topic: t, at: position{record: seq}}
	if t.firstOutput() != 0 {
		s.at.output = t.output.Seek(seq)
		t.mu.Unlock()
		return nil, s
	}
	return s.first(0), s
}

// first returns the first frames, up to the first output if there is some. It
// unlocks the topic.
func (s *Subscription) first(output uint64) []Frame {
	have, _ := s.source()
	s.topic.mu.Unlock()
	have.log, have.all = nil, true
	if output != 0 {
		have.end = output - 1
	}
	frames, _, _ := s.read(&have) // no file is read
	return frames
}

// Next waits until there is something new and returns it, in order: at least one
// frame, but no batch if wait passed without any. A batch is bounded, and what
// does not fit comes with the next. After the topic's last frame Next returns
// io.EOF, and ctx's error once that is done. Any other error is the disk's: the
// output could not be read. A reader may go on after it; it has missed nothing.
func (s *Subscription) Next(ctx context.Context, wait time.Duration) (*Batch, error) {
	t := s.topic
	var until time.Time // when wait has passed
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t.mu.Lock()
		have, delay := s.source()
		shared, changed := t.shared, t.changed.Wait(delay <= 0)
		t.mu.Unlock()

		from := s.at
		if shared.batch != nil && shared.from == from && shared.extent == have.extent {
			s.move(shared.to)
			return shared.batch, nil
		}
		frames, more, err := s.read(&have)
		switch {
		case err != nil:
			return nil, err
		case len(frames) > 0:
			return t.share(sharedBatch{from, s.at, have.extent, NewBatch(frames...)}), nil
		case more:
			continue
		case have.ended:
			return nil, io.EOF
		}
		if until.IsZero() {
			until = time.Now().Add(wait)
		}
		if s.idle.Wait(ctx, changed, delay, until) {
			return nil, nil
		}
	}
}

// share keeps a batch for other readers, and returns it, or the one of another
// reader that was first.
func (t *Topic) share(b sharedBatch) *Batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := &t.shared; s.batch != nil && s.from == b.from && s.to == b.to && s.extent == b.extent {
		return s.batch
	}
	t.shared = b
	return b.batch
}

// source returns what there is for the reader, and how long layers are to wait.
// The topic is locked.
func (s *Subscription) source() (have source, delay time.Duration) {
	t := s.topic
	if s.at.latest != t.latest {
		s.at.latest, s.at.layers, s.at.version = t.latest, 0, version{}
	}
	have = source{log: t.output, missed: t.missed, end: t.end(), ended: t.ended}
	if s.at.present != 0 {
		have.numbered = after(t.present(s.at.present), s.at.record)
		if later := after(t.record, s.at.present); len(later) > 0 {
			have.later = later[0].order
		}
	} else {
		have.numbered = after(t.record, s.at.record)
	}
	have.extent = extent{record: t.last(), written: t.written()}
	if have.log != nil {
		have.snapshot = have.log.Snapshot()
		have.output = have.snapshot.Last
		have.ended = t.ended && have.written == t.until
	}
	if s.at.latest != nil {
		have.version = s.at.latest.latest()
		if s.Every > LayerInterval && !have.ended {
			delay = s.Every - time.Since(s.layersAt)
		}
		have.wait = delay > 0
	}
	return have, delay
}

// read reads on, up to a batch. more says that there is more than that. After an
// error the position is as it was.
func (s *Subscription) read(have *source) (frames []Frame, more bool, err error) {
	limit := have.end // what comes after this order has to wait
	if have.log != nil {
		limit = min(limit, have.written)
	}
	if have.later != 0 {
		limit = min(limit, have.later-1)
	}
	numbered, more := firstPart(upTo(limit, have.numbered))
	if more {
		limit = numbered[len(numbered)-1].order
	}
	layers, all, part := s.layers(have, limit)
	if part {
		more, limit = true, layers[len(layers)-1].order
	}
	var output []Frame
	if have.log != nil {
		var part bool
		if output, part, err = s.output(have, limit); err != nil {
			return nil, false, err
		}
		if part {
			more, limit = true, min(limit, s.at.output.Order())
		}
	}
	numbered, layers = upTo(limit, numbered), upTo(limit, layers)
	to := s.at
	if n := len(numbered); n > 0 {
		to.record = numbered[n-1].order
	}
	if n := len(layers); n > 0 {
		to.layers = layers[n-1].order
	}
	if n := len(layers); all == n {
		to.version, to.layers = have.version, max(to.layers, have.version.order)
	}
	if to.present != 0 && !more {
		to.record, to.present = to.present, 0
		more = true
	}
	s.move(to)
	return inOrder(numbered, layers, output), more, nil
}

// move takes the reader to a position.
func (s *Subscription) move(to position) {
	if to.layers != s.at.layers {
		s.layersAt = time.Now()
	}
	s.at = to
}

// layers returns the layers up to an order that are new to the reader, or the
// first part of them. all is how many there are, whatever their order, -1 where
// none are to be read.
func (s *Subscription) layers(have *source, order uint64) (layers []Frame, all int, part bool) {
	if s.at.latest == nil || have.wait || have.version == s.at.version && !have.ended {
		return nil, -1, false
	}
	// Readers that have read the version before read to the end of this one, and
	// no further. So they come to the same position.
	if s.at.version.number+1 == have.version.number && !have.ended && !have.all {
		layers = s.at.latest.changesOf(have.version, s.at.layers)
	}
	if layers == nil {
		layers = s.at.latest.after(s.at.layers)
	}
	all = len(layers)
	layers, part = firstPart(upTo(order, layers))
	return layers, all, part
}

// output reads on in the output log, up to an order.
func (s *Subscription) output(have *source, order uint64) (frames []Frame, part bool, err error) {
	entries, part, err := have.log.Read(&s.at.output, have.snapshot, order)
	for _, e := range entries {
		if !e.IsGap() {
			frames = append(frames, frameOf(e))
			continue
		}
		f := have.missed()
		f.order = e.Order
		frames = append(frames, f)
	}
	return frames, part, err
}
