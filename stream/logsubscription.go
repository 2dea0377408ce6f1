package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/towline/towline/stream/waiting"
)

// A LogSubscription is a reader's position in the event log. It is for one
// goroutine, holds no resources and need not be closed.
type LogSubscription struct {
	// Every is the shortest time between two batches with layers in them, but a
	// result comes with the layers before it. Below LayerInterval it is a
	// LayerInterval. It may be set before the first Next.
	Every time.Duration

	log      *EventLog
	filter   Filter
	missed   func() Frame
	came     uint64 // the order at which it subscribed; 0 for one that resumed
	at       logPosition
	layersAt time.Time
	idle     waiting.Deadline
}

// logPosition is how far a reader has read the event log. Readers at equal
// positions, with equal filters, can share what comes next.
type logPosition struct {
	start    uint64 // the order at which the reader came; 0 once it has the states that jobs had then
	states   uint64 // up to this order it has them
	numbered uint64 // up to this order it has all numbered frames
	missed   uint64 // the order up to which it knows that output is missing
	layers   uint64 // up to this order it has the layers
}

// logExtent is how much there is to read in the event log.
type logExtent struct {
	numbered uint64
	layers   uint64
	wait     bool // Every asks to wait for layers
}

// sharedLogBatch is what one reader got on its way from one position to another,
// for those that come the same way.
type sharedLogBatch struct {
	filter   Filter
	from, to logPosition
	extent   logExtent
	part     bool // there is more, whatever has come since
	batch    *Batch
}

// logSource is what the event log has for a reader, as it was at some time.
type logSource struct {
	logExtent
	events, output []logged
	floor          uint64 // of output
	behind         bool
	latest         []shownLatest
	ended          bool
}

// ErrBehind is the error for a reader whose position is not kept any more. It
// subscribes again.
var ErrBehind = errors.New("the reader's position is not kept any more")

// Subscribe returns a LogSubscription to the jobs that filter chooses. It begins
// with the present state of those that have not ended, and their layers. missed
// makes one frame, without a number, in the place of output that is not kept for
// the reader any more.
func (l *EventLog) Subscribe(filter Filter, missed func() Frame) *LogSubscription {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.published()
	return &LogSubscription{log: l, filter: filter, missed: missed, came: at, at: logPosition{start: at, numbered: at}}
}

// Resume is Subscribe for a reader that has read up to seq: it begins with every
// numbered frame after that. The error is ErrBehind.
func (l *EventLog) Resume(filter Filter, missed func() Frame, seq uint64) (*LogSubscription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq < l.events.floor || seq > l.seq.Last() {
		return nil, ErrBehind
	}
	return &LogSubscription{log: l, filter: filter, missed: missed, at: logPosition{numbered: seq}}, nil
}

// At returns the number up to which the reader has read everything.
func (s *LogSubscription) At() uint64 { return s.at.numbered }

// Next is as Subscription.Next. Its error may be ErrBehind, and is never the
// disk's. The frames have their jobs filled in.
func (s *LogSubscription) Next(ctx context.Context, wait time.Duration) (*Batch, error) {
	l := s.log
	var until time.Time // when wait has passed
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		delay := time.Duration(0)
		if s.Every > LayerInterval {
			delay = max(0, s.Every-time.Since(s.layersAt))
		}
		l.mu.Lock()
		have := l.source(&s.at, delay > 0)
		shared := l.find(s.filter, s.at, have.logExtent)
		changed := l.changed.Wait(delay <= 0)
		l.mu.Unlock()

		if shared != nil {
			s.move(shared.to)
			return shared.batch, nil
		}
		if have.behind {
			return nil, ErrBehind
		}
		from := s.at
		frames, more := s.read(&have)
		switch {
		case len(frames) > 0:
			return l.share(sharedLogBatch{s.filter, from, s.at, have.logExtent, more, NewBatch(frames...)}), nil
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

// source returns what there is after a position. The lock is held.
func (l *EventLog) source(at *logPosition, wait bool) logSource {
	return logSource{
		logExtent: logExtent{l.published(), l.layers.order, wait},
		events:    l.events.after(at.numbered), output: l.output.after(at.numbered), floor: l.output.floor,
		behind: at.numbered < l.events.floor, latest: l.latest, ended: l.ended,
	}
}

// find returns what another reader got at a position. The lock is held.
func (l *EventLog) find(filter Filter, at logPosition, extent logExtent) *sharedLogBatch {
	for i := range l.shared {
		b := &l.shared[i]
		if b.batch != nil && b.filter == filter && b.from == at && (b.part && b.extent.wait == extent.wait || b.extent == extent) {
			found := *b
			return &found
		}
	}
	return nil
}

// share keeps a batch for other readers, and returns it, or the one of another
// reader that was first.
func (l *EventLog) share(b sharedLogBatch) *Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.find(b.filter, b.from, b.extent); s != nil && s.to == b.to {
		return s.batch
	}
	l.shared[l.next] = b
	l.next = (l.next + 1) % len(l.shared)
	return b.batch
}

// read reads on, up to a batch. more says that there is more than that.
func (s *LogSubscription) read(have *logSource) (frames []Frame, more bool) {
	if s.at.start != 0 {
		return s.states(), true
	}
	to := s.at
	limit := have.numbered // what comes after this order has to wait
	numbered, part := s.numbered(have)
	if part {
		more, limit = true, numbered[len(numbered)-1].order
	}
	result := slices.ContainsFunc(numbered, func(f Frame) bool { return f.Type == "result" })
	var layers []Frame
	if !have.wait || result {
		end := have.layers
		if result {
			end = max(end, limit)
		}
		if more {
			end = min(end, limit)
		}
		layers, part = firstPart(s.layers(have.latest, end))
		if to.layers = max(to.layers, end); part {
			to.layers = layers[len(layers)-1].order
			more, limit = true, min(limit, to.layers)
			numbered = upTo(limit, numbered)
		}
	}
	if limit > to.numbered {
		to.numbered = limit
	}
	if output := have.output; to.missed < have.floor && s.at.numbered < have.floor &&
		slices.ContainsFunc(output, func(f logged) bool { return s.filter.match(f.about) }) {
		f := s.missed()
		f.order = s.at.numbered
		numbered, to.missed = append([]Frame{f}, numbered...), have.floor
	}
	s.move(to)
	return inOrder(numbered, layers), more
}

// move takes the reader to a position.
func (s *LogSubscription) move(to logPosition) {
	if to.layers != s.at.layers {
		s.layersAt = time.Now()
	}
	s.at = to
}

// states returns the next of the states that jobs had when the reader came, in
// the order of their numbers: the reader can resume from any.
func (s *LogSubscription) states() []Frame {
	l := s.log
	l.mu.Lock()
	var topics []*Topic
	for t, about := range l.topics {
		if s.filter.match(about) {
			topics = append(topics, t)
		}
	}
	l.mu.Unlock()
	var states []Frame
	for _, t := range topics {
		t.mu.Lock()
		if t.end() > s.at.start {
			states = append(states, after(t.state(s.at.start), s.at.states)...)
		}
		t.mu.Unlock()
	}
	frames, part := firstPart(inOrder(states))
	if part {
		s.at.states = frames[len(frames)-1].order
	} else {
		s.at.start, s.at.states = 0, 0
	}
	return slices.Clone(frames)
}

// numbered returns the first part of the numbered frames.
func (s *LogSubscription) numbered(have *logSource) (frames []Frame, part bool) {
	size := 0
	for events, output := have.events, have.output; len(events)+len(output) > 0; {
		from := &events
		if len(events) == 0 || len(output) > 0 && output[0].order < events[0].order {
			from = &output
		}
		f := (*from)[0]
		*from = (*from)[1:]
		if !s.filter.match(f.about) {
			continue
		}
		if size += f.size(); size > batchSize && len(frames) > 0 {
			return frames, true
		}
		frames = append(frames, f.Frame)
	}
	return frames, false
}

// layers returns the layers after the reader's position, up to an order.
func (s *LogSubscription) layers(latest []shownLatest, end uint64) []Frame {
	var all []Frame
	for _, l := range latest {
		if !s.filter.match(l.about) || l.hidden != 0 && l.hidden <= s.came { // they were over before
			continue
		}
		last := end
		if l.hidden != 0 {
			last = min(last, l.hidden)
		}
		for _, f := range upTo(last, l.after(s.at.layers)) {
			all = append(all, f.withJob(l.about.Job))
		}
	}
	return inOrder(all)
}
