// Package history keeps what has become of the engine's images: which were removed, or are
// about to be, and which were missing and came again. Each change is an event among those of all jobs, with a number
// of theirs.
package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/stream"
)

const (
	// kind is the kind of the records. Their keys are the numbers of the events.
	kind = "image-event"
	// intentKind is that of images that are about to be removed. Their keys are the IDs.
	intentKind = "image-removal"
	// maxKept is how many events are kept; with dropAt of them, the oldest go.
	maxKept = 1000
	dropAt  = maxKept + 100
)

// Options are what a History is made with.
type Options struct {
	Records store.Records
	Log     logrus.FieldLogger
}

// History has the last changes of images. Its methods may be called from anywhere.
type History struct {
	o Options

	adding sync.Mutex // one change at a time; taken before mu

	mu      sync.Mutex
	kept    []puller.Event                // by number
	intents map[string]puller.ImageChange // by ID
	dropped uint64                        // the number of the last event that is not kept any more
	events  *stream.EventLog
}

var _ keep.History = (*History)(nil)

// Open reads what was kept. What can't be read is logged and left out.
func Open(o Options) (*History, error) {
	values, err := o.Records.Load(kind)
	if err != nil {
		return nil, fmt.Errorf("load the history of images: %w", err)
	}
	h := &History{o: o, intents: make(map[string]puller.ImageChange)}
	for key, value := range values {
		var e puller.Event
		if err := json.Unmarshal(value, &e); err != nil || e.Seq == 0 || e.Image == nil || keyOf(e.Seq) != key {
			o.Log.WithError(err).WithField("event", puller.Clip(key)).Warn("what became of an image can't be read")
			continue
		}
		h.kept = append(h.kept, e)
	}
	slices.SortFunc(h.kept, bySeq)
	if len(h.kept) >= maxKept {
		h.dropped = h.kept[0].Seq // those before it may be gone
	}
	return h, h.loadIntents()
}

func bySeq(a, b puller.Event) int {
	if a.Seq < b.Seq {
		return -1
	}
	return 1 // no two have one number
}

func keyOf(seq uint64) string { return fmt.Sprintf("%020d", seq) }

// Told returns the events that are kept, for readers who come back. Those up to floor may be
// incomplete.
func (h *History) Told() (frames []stream.Frame, about []*stream.About, floor uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.kept {
		frames, about = append(frames, e.Frame()), append(about, e.Image.About())
	}
	return frames, about, h.dropped
}

// Begin has changes from now on be events of a log. It is called once, before Add.
func (h *History) Begin(events *stream.EventLog) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = events
}

// Add keeps a change, and tells the readers of all events. It is on disk by then: where that
// can't be, readers are told, and a restart forgets it.
func (h *History) Add(c puller.ImageChange) {
	h.adding.Lock()
	defer h.adding.Unlock()
	topic := h.events.Topic()
	topic.Announce(c.About())
	e := puller.ImageEvent(h.events.Reserve(), c) // readers wait for it from now on
	value, err := json.Marshal(e)
	if err == nil {
		err = h.o.Records.Save(kind, map[string][]byte{keyOf(e.Seq): value})
	}
	if err != nil {
		h.o.Log.WithError(err).WithField("event", e.Seq).Warn("what became of an image could not be kept; a restart forgets it")
	}
	h.mu.Lock()
	h.kept = append(h.kept, e)
	h.mu.Unlock()
	topic.End(e.Frame())
	if c.Action == puller.ImageRemoved {
		h.Drop(c.ID)
	}
	h.forget()
}

// forget drops the oldest events where there are too many. adding is held.
func (h *History) forget() {
	h.mu.Lock()
	if len(h.kept) < dropAt {
		h.mu.Unlock()
		return
	}
	var keys []string
	n := len(h.kept) - maxKept
	for _, e := range h.kept[:n] {
		keys = append(keys, keyOf(e.Seq))
	}
	h.kept = slices.Clone(h.kept[n:])
	h.mu.Unlock()
	if err := h.o.Records.Delete(kind, keys); err != nil {
		h.o.Log.WithError(err).Warn("the oldest changes of images could not be dropped")
	}
}

// Changes implements keep.History.
func (h *History) Changes(f keep.HistoryFilter) (page []puller.Event, next string, err error) {
	if err := f.Check(); err != nil {
		return nil, "", err
	}
	before := uint64(0)
	if f.Cursor != "" {
		if before, err = strconv.ParseUint(f.Cursor, 10, 64); err != nil {
			return nil, "", puller.Errorf(puller.ErrInvalidRequest, "cursor: %q is not the next of a page", puller.Clip(f.Cursor))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	page = []puller.Event{}
	for _, e := range slices.Backward(h.kept) {
		if before != 0 && e.Seq >= before || f.Image != "" && !slices.Contains(e.Image.Names, names.EngineRef(f.Image)) {
			continue
		}
		if len(page) == f.Limit {
			return page, strconv.FormatUint(page[len(page)-1].Seq, 10), nil
		}
		page = append(page, e)
	}
	return page, "", nil
}

// Collected reports whether a collection has removed a name, in full form, since a time.
func (h *History) Collected(name string, since time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range slices.Backward(h.kept) {
		if e.Time.Before(since) {
			return false
		}
		if e.Image.Action == puller.ImageRemoved && slices.Contains(e.Image.Names, name) {
			return true
		}
	}
	return false
}
