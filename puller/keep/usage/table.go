package usage

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/store"
)

// Options are what a Table is made with. All fields must be set.
type Options struct {
	Engine  engines.Engine
	Records store.Records
	Log     logrus.FieldLogger
}

// Table has a Record of each image. Its methods may be called from anywhere.
type Table struct {
	opts     Options
	evidence *evidence
	wake     chan struct{} // has something in it when more was seen than the last list has resolved

	resolving chan struct{} // full while what was seen is resolved and saved, before all locks
	listing   chan struct{} // full during a list, so that an older one does not replace a newer one

	mu      sync.Mutex
	records records
	seen    sightings
}

// New returns a Table without records.
func New(o Options) *Table {
	return &Table{opts: o, evidence: newEvidence(o.Records, o.Log), wake: make(chan struct{}, 1), resolving: make(chan struct{}, 1), listing: make(chan struct{}, 1), records: newRecords(), seen: newSightings()}
}

// Load reads what was kept. It is called before all else. What can't be read is logged and
// left out: its images are somebody else's, and have just come.
func (t *Table) Load() error {
	values, err := t.opts.Records.Load(Kind)
	if err != nil {
		return err
	}
	for id, value := range values {
		var r Record
		if err := json.Unmarshal(value, &r); err != nil || r.Arrived.IsZero() {
			t.opts.Log.WithField("image", puller.Clip(id)).WithError(err).Warn("what was known of an image can't be read")
			continue
		}
		t.records.byID[id] = r
	}
	past, err := t.evidence.load()
	if err != nil {
		return err
	}
	for _, v := range past {
		t.seen.event(v)
		if v.Action == "delete" {
			t.records.drop(v.ID)
		}
	}
	return nil
}

// Snapshot is what an engine had at a time.
type Snapshot struct {
	Images     []engines.ImageSummary
	Containers []engines.ContainerState
	// Records are by image ID. Each of Images has one.
	Records map[string]Record
}

// Snapshot asks the engine for its images and containers, with shared also for what images
// share, and returns them with what is known of each.
func (t *Table) Snapshot(ctx context.Context, shared bool) (Snapshot, error) {
	if err := t.list(ctx); err != nil {
		return Snapshot{}, err
	}
	defer t.listed()
	t.mu.Lock()
	seen := t.seen
	t.seen = newSightings()
	t.mu.Unlock()
	asOf := time.Now()
	images, err := t.opts.Engine.Images(ctx, shared)
	var containers []engines.ContainerState
	if err == nil {
		containers, err = t.opts.Engine.AllContainers(ctx)
	}
	complete := t.evidence.complete()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.seen.add(&seen)
		return Snapshot{}, err
	}
	// What was seen since the list began may be in it or not. It stays for the next one, too.
	seen.add(&t.seen)
	t.records.apply(images, containers, seen, asOf, complete)
	return Snapshot{images, containers, maps.Clone(t.records.byID)}, nil
}

// list waits until no list is under way, and keeps others from beginning one until listed is
// called.
func (t *Table) list(ctx context.Context) error {
	select {
	case t.listing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Table) listed() { <-t.listing }

// save keeps what has changed. What could not be saved is saved the next time.
func (t *Table) save() error {
	t.mu.Lock()
	values, gone, err := t.records.take()
	t.mu.Unlock()
	if err != nil {
		return err
	}
	if err = write(t.opts.Records, values, gone); err != nil {
		t.mu.Lock()
		t.records.putBack(values, gone)
		t.mu.Unlock()
	}
	return err
}

// write saves values by image ID, and deletes those that are gone.
func write(to store.Records, values map[string][]byte, gone []string) error {
	if len(values) > 0 {
		if err := to.Save(Kind, values); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		return to.Delete(Kind, gone)
	}
	return nil
}
