package stream

import (
	"slices"
	"sync"
	"time"
)

// LayerInterval is the shortest time between two batches with layers: an engine
// reports each layer ten times a second.
const LayerInterval = 100 * time.Millisecond

// A Latest has the latest frame of each layer of one attempt. Progress is
// conflated here: the size follows the number of layers, not of events. What was
// set becomes visible in versions, one a LayerInterval at most. So all readers
// who keep up read the same at the same time, and can share it.
// Many topics may show one Latest. Its methods may be called from anywhere and
// never wait for a reader.
type Latest struct {
	seq *Sequence

	mu      sync.Mutex
	frames  []Frame // one a layer, in the order they were set
	ids     []string
	version version
	changes []Frame   // what version has that the one before had not
	at      time.Time // when version was published
	due     bool      // a timer is going to publish the next one
	topics  map[*Topic]struct{}
	log     *EventLog // nil unless that shows it
}

// version is what had been set at some time. The zero version is nothing.
type version struct {
	number uint64
	order  uint64 // of the last frame in it
}

// NewLatest returns an empty Latest whose frames are ordered by seq.
func NewLatest(seq *Sequence) *Latest { return &Latest{seq: seq} }

// Set replaces the layer's frame.
func (l *Latest) Set(id string, f Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Active layers are near the end; a prewarm has thousands.
	for i := len(l.ids) - 1; i >= 0; i-- {
		if l.ids[i] == id {
			l.ids = append(l.ids[:i], l.ids[i+1:]...)
			l.frames = append(l.frames[:i], l.frames[i+1:]...)
			break
		}
	}
	f.order = l.seq.Next()
	l.ids = append(l.ids, id)
	l.frames = append(l.frames, f)
	if l.due {
		return
	}
	if wait := LayerInterval - time.Since(l.at); wait > 0 {
		l.due = true
		time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.publish()
		})
		return
	}
	l.publish()
}

// publish publishes the next version. The lock is held.
func (l *Latest) publish() {
	// A copy: a frame may be replaced before every reader has read it.
	l.changes = slices.Clone(after(l.frames, l.version.order))
	l.version, l.at, l.due = version{l.version.number + 1, l.frames[len(l.frames)-1].order}, time.Now(), false
	for t := range l.topics {
		t.changed.Layers()
	}
	if l.log != nil {
		l.log.layersChanged(l.version.order)
	}
}

// join makes a log show the layers, those that were set before too: they get
// new orders, since readers of the log may be beyond the old ones.
func (l *Latest) join(log *EventLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log != nil {
		return
	}
	l.log = log
	if len(l.frames) > 0 {
		for i := range l.frames {
			l.frames[i].order = l.seq.Next()
		}
		l.publish()
	}
}

// add makes a topic's readers wake up for new versions, and remove ends that.
func (l *Latest) add(t *Topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics == nil {
		l.topics = make(map[*Topic]struct{})
	}
	l.topics[t] = struct{}{}
}

func (l *Latest) remove(t *Topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, t)
}

// latest returns the latest version.
func (l *Latest) latest() version {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version
}

// after returns the frames that were set after an order.
func (l *Latest) after(order uint64) []Frame {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(after(l.frames, order))
}

// changesOf returns what a version has new, after an order; nil if it is not the
// latest any more.
func (l *Latest) changesOf(v version, order uint64) []Frame {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version != v {
		return nil
	}
	return after(l.changes, order)
}
