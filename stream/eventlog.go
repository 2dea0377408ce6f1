package stream

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/stream/waiting"
)

// An EventLog has the events of all jobs: the last of their numbered frames, in
// the order of the numbers, and the layers of active attempts. It also gives out
// the numbers. A number that was reserved holds back those above it until its
// frame is published. So a reader that has read up to a number has read all
// below it.
// Its methods may be called from anywhere and never wait for a reader.
type EventLog struct {
	seq   *Sequence
	limit int // of each ring, in bytes

	mu       sync.Mutex // taken after a topic's or a Latest's
	reserved []uint64   // numbers whose frames were not published yet, in order
	pending  []logged   // frames that wait for one of them, in order
	events   ring       // all but output
	output   ring
	topics   map[*Topic]*About // announced, and not ended as far as readers may know
	ending   []endedTopic      // of topics
	latest   []shownLatest
	layers   layerClock
	changed  waiting.Changes
	shared   [8]sharedLogBatch
	next     int // in shared
	ended    bool
}

// shownLatest is the layers of an attempt, and in the name of which of its jobs
// they are shown.
type shownLatest struct {
	*Latest
	about  *About
	hidden uint64    // when it was hidden, in the Sequence's numbers; 0 if it is not
	at     time.Time // the same
}

// endedTopic is a topic that has ended, with the order of its last frame.
type endedTopic struct {
	*Topic
	order uint64
}

// keepHidden is how long hidden layers can still be read, so that readers get
// the last of them.
const keepHidden = 5 * time.Second

// layerClock makes layers of all attempts readable at the same time, once a
// LayerInterval at most. So readers can share them.
type layerClock struct {
	order uint64 // up to this order layers can be read
	next  uint64 // the same, at the next time
	at    time.Time
	due   bool // a timer is set
}

// NewEventLog returns an event log that gives out the numbers of seq, which has
// been started. It keeps limit bytes of frames, and as many of output. It has
// none of the frames before.
func NewEventLog(seq *Sequence, limit int) *EventLog {
	l := &EventLog{seq: seq, limit: limit, topics: make(map[*Topic]*About)}
	l.events.floor, l.output.floor = seq.Last(), seq.Last()
	return l
}

// Restore adds the frames of an earlier process, each with what it is about.
// Those up to floor may be incomplete and are left out. It is called before any
// number is reserved.
func (l *EventLog) Restore(floor uint64, frames []Frame, about []*About) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events.floor = floor
	all := make([]logged, len(frames))
	for i, f := range byOrder(frames) {
		all[i] = logged{f, about[i]}
	}
	slices.SortFunc(all, compareLogged)
	for _, f := range all {
		if f.order > floor {
			l.events.push(f, l.limit)
		}
	}
}

func compareLogged(a, b logged) int { return cmp.Compare(a.order, b.order) }

// Reserve returns the next number. The frame that gets it must be published by
// its topic: readers wait for it.
func (l *EventLog) Reserve() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq := l.seq.Next()
	l.reserved = append(l.reserved, seq)
	return seq
}

// Topic returns a topic that gets its numbers here. It begins with a record of
// numbered frames, in their order. Its frames are in the log once it is
// announced.
func (l *EventLog) Topic(record ...Frame) *Topic {
	t := NewTopic(l.seq, record...)
	t.log = l
	return t
}

// add makes new readers get a topic's state. The topic is locked.
func (l *EventLog) add(t *Topic, about *About) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[t] = about
}

// remove is called when a topic has ended at an order. New readers get its state
// until they can get its last frame. The topic is locked.
func (l *EventLog) remove(t *Topic, order uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = append(l.ending, endedTopic{t, order})
	published := l.published()
	l.ending = slices.DeleteFunc(l.ending, func(t endedTopic) bool {
		if t.order <= published {
			delete(l.topics, t.Topic)
		}
		return t.order <= published
	})
}

// publish adds a frame whose number was reserved. Without about nobody gets it,
// but its number holds back none.
func (l *EventLog) publish(f Frame, about *About) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	switch i, ok := slices.BinarySearch(l.reserved, f.order); {
	case ok && i == 0: // mostly, and of thousands
		l.reserved = l.reserved[1:]
	case ok:
		l.reserved = slices.Delete(l.reserved, i, i+1)
	}
	if about != nil {
		one := logged{f, about}
		i, _ := slices.BinarySearchFunc(l.pending, one, compareLogged)
		l.pending = slices.Insert(l.pending, i, one)
	}
	n := 0
	for n < len(l.pending) && (len(l.reserved) == 0 || l.pending[n].order < l.reserved[0]) {
		f := l.pending[n]
		if f.Type == "log" {
			l.output.push(f, l.limit)
		} else {
			l.events.push(f, l.limit)
		}
		n++
	}
	if n > 0 {
		clear(l.pending[:n])
		l.pending = l.pending[n:]
		l.changed.Numbered()
	}
}

// published returns the order up to which all frames were published. The lock is
// held.
func (l *EventLog) published() uint64 {
	if len(l.reserved) > 0 {
		return l.reserved[0] - 1
	}
	return l.seq.Last()
}

// Show makes readers get the layers of an attempt too, in the name of a job.
// Where they are shown already, only the name changes.
func (l *EventLog) Show(latest *Latest, about *About) {
	l.mu.Lock()
	l.latest = l.withoutHidden()
	i := slices.IndexFunc(l.latest, func(s shownLatest) bool { return s.Latest == latest })
	if i >= 0 {
		l.latest[i].about = about
	} else {
		l.latest = append(l.latest, shownLatest{Latest: latest, about: about})
	}
	l.mu.Unlock()
	latest.join(l)
}

// Hide ends what Show began.
func (l *EventLog) Hide(latest *Latest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest = l.withoutHidden()
	for i := range l.latest {
		if s := &l.latest[i]; s.Latest == latest && s.hidden == 0 {
			s.hidden, s.at = l.seq.Last(), time.Now()
		}
	}
}

// withoutHidden returns the layers without those that were hidden long ago. It
// is a copy: readers have the old one.
func (l *EventLog) withoutHidden() []shownLatest {
	var kept []shownLatest
	for _, s := range l.latest {
		if s.hidden == 0 || time.Since(s.at) < keepHidden {
			kept = append(kept, s)
		}
	}
	return kept
}

// layersChanged says that there are new layers up to an order.
func (l *EventLog) layersChanged(order uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.layers
	if c.next = max(c.next, order); c.due {
		return
	}
	if wait := LayerInterval - time.Since(c.at); wait > 0 {
		c.due = true
		time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.publishLayers()
		})
		return
	}
	l.publishLayers()
}

// publishLayers makes the new layers readable. The lock is held.
func (l *EventLog) publishLayers() {
	c := &l.layers
	c.order, c.at, c.due = c.next, time.Now(), false
	l.changed.Layers()
}

// End makes every reader come to an end.
func (l *EventLog) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.changed.Numbered()
}
