package usage

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/store"
)

// evidenceRecord is what the next start needs to say who brought which image, where this process
// is killed. It is on disk a moment after each event of an image. The jobs are in their
// store.
type evidenceRecord struct {
	// Since is from when on all images and events are known: those that were there or came
	// until the last checkpoint by the records, and later ones by Seen. It is zero where
	// something was missed.
	Since time.Time `json:"since,omitzero"`
	// Until is when the process ended, or the next one found that it was killed.
	Until time.Time `json:"until,omitzero"`
	// Checkpoint is when all that was seen before it was in the records on disk.
	Checkpoint time.Time   `json:"checkpoint,omitzero"`
	Seen       []imageSeen `json:"seen,omitempty"`
}

// imageSeen is an event of an image.
type imageSeen struct {
	Action string    `json:"action"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
}

const (
	// evidenceKind is the kind of the record of the evidence, and evidenceKey its key.
	evidenceKind = "image-evidence"
	evidenceKey  = "last"
	// maxEvidence is how many events are kept between two checkpoints. With more of them,
	// who brought what came meanwhile is not certain.
	maxEvidence = 2000
)

// evidence has the record of what is seen, and keeps it on disk. Its methods may be called
// from anywhere.
type evidence struct {
	records store.Records
	log     logrus.FieldLogger
	more    chan struct{} // has something in it when the record has changed

	writing sync.Mutex // held while the record is saved, before mu

	mu        sync.Mutex
	record    evidenceRecord
	connected time.Time // since when this process knows all events and images; zero while it does not
}

func newEvidence(records store.Records, log logrus.FieldLogger) *evidence {
	return &evidence{records: records, log: log, more: make(chan struct{}, 1)}
}

// load reads what an earlier process has left, and returns the events that it saw.
func (e *evidence) load() (past []engines.Event, err error) {
	values, err := e.records.Load(evidenceKind)
	if err != nil {
		return nil, err
	}
	var r evidenceRecord
	if value, ok := values[evidenceKey]; ok {
		if err := json.Unmarshal(value, &r); err != nil {
			e.log.WithError(err).Warn("what was seen of images before the start can't be read; who brought them is not certain")
			r = evidenceRecord{}
		}
	}
	for _, seen := range r.Seen {
		past = append(past, engines.Event{Type: engines.EventImage, Action: seen.Action, ID: seen.ID, Time: seen.Time})
	}
	if r.Until.IsZero() {
		r.Until = time.Now().UTC() // it was killed
	}
	e.mu.Lock()
	e.record = r
	e.mu.Unlock()
	if err := e.write(); err != nil { // a full disk must not keep the daemon from its start
		e.log.WithError(err).Warn("what is seen of images can't be saved; it is tried again")
		e.missed()
	}
	return past, nil
}

// run saves the record each time that it has changed, until ctx ends.
func (e *evidence) run(ctx context.Context) {
	for {
		select {
		case <-e.more:
			if err := e.write(); err != nil {
				e.log.WithError(err).Debug("what was seen of images can't be saved")
			}
		case <-ctx.Done():
			return
		}
	}
}

// last returns the record as it stands.
func (e *evidence) last() evidenceRecord {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.record
}

// complete returns since when this process knows all events and images, zero while it does not.
func (e *evidence) complete() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.connected
}

// connect notes that from now on all events and images are known.
func (e *evidence) connect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.connected = time.Now()
}

// witness keeps an event of an image, until the next checkpoint. It must be among the sightings
// before, as a checkpoint takes each event up to its mark for one that a list has resolved.
func (e *evidence) witness(v engines.Event) {
	switch v.Action {
	case "untag", "prune":
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.record.Seen) >= maxEvidence {
		e.record.Since = time.Time{}
		return
	}
	e.record.Seen = append(e.record.Seen, imageSeen{v.Action, puller.ClipTo(v.ID, puller.MaxReference), v.Time.UTC()})
	e.changed()
}

// missed notes that events were missed.
func (e *evidence) missed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.connected = time.Time{}
	e.record.Since = time.Time{}
	e.changed()
}

// changed has run save the record.
func (e *evidence) changed() {
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// mark is how far the evidence has come.
type mark struct {
	began     time.Time
	connected time.Time // as evidence.complete returns it
	events    int       // that were seen since the last checkpoint
}

// mark returns how far the evidence has come by now.
func (e *evidence) mark() mark {
	e.mu.Lock()
	defer e.mu.Unlock()
	return mark{time.Now(), e.connected, len(e.record.Seen)}
}

// checkpoint notes that what was seen up to a mark is in the records on disk, and saves that.
func (e *evidence) checkpoint(m mark) error {
	e.mu.Lock()
	if !e.connected.Equal(m.connected) {
		m.connected = time.Time{} // events were missed meanwhile
	}
	r := &e.record
	same := m.events == 0 && r.Since.Equal(m.connected) && r.Until.IsZero()
	if !same {
		r.Seen = slices.Clone(r.Seen[m.events:])
		r.Since, r.Until, r.Checkpoint = m.connected.UTC(), time.Time{}, m.began.UTC()
	}
	e.mu.Unlock()
	if same {
		return nil
	}
	return e.write()
}

// end notes that the process ends, and saves that.
func (e *evidence) end() error {
	e.mu.Lock()
	e.record.Until = time.Now().UTC()
	e.mu.Unlock()
	return e.write()
}

// write saves the record.
func (e *evidence) write() error {
	e.writing.Lock()
	defer e.writing.Unlock()
	e.mu.Lock()
	value, err := json.Marshal(e.record)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.records.Save(evidenceKind, map[string][]byte{evidenceKey: value})
}
