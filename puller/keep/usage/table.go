package usage

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
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
	opts Options

	listing sync.Mutex // held for a list, so that an older one does not replace a newer one

	mu        sync.Mutex
	records   map[string]Record // by image ID
	byName    map[string]string // image IDs of the last list, by name
	seen      sightings
	connected time.Time // since when all events and images are known; zero while they are not
	changed   map[string]bool
	gone      map[string]bool
	wake      chan struct{} // has room for one
	evidence  evidence
	seenMore  chan struct{} // has something in it when the evidence has changed

	writing sync.Mutex // held while the evidence is saved, before mu
}

// New returns a Table without records.
func New(o Options) *Table {
	return &Table{
		opts: o, records: make(map[string]Record), byName: make(map[string]string), seen: newSightings(),
		changed: make(map[string]bool), gone: make(map[string]bool), wake: make(chan struct{}, 1), seenMore: make(chan struct{}, 1),
	}
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
		t.records[id] = r
	}
	return t.loadEvidence()
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
	t.listing.Lock()
	defer t.listing.Unlock()
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
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.seen.add(&seen)
		return Snapshot{}, err
	}
	// What was seen since the list began may be in it or not. It stays for the next one, too.
	seen.add(&t.seen)
	t.apply(images, containers, seen, asOf)
	return Snapshot{images, containers, maps.Clone(t.records)}, nil
}

// apply takes over what a list tells, which was asked for at a time, and what was seen until
// it came. The lock is held, here and below.
func (t *Table) apply(images []engines.ImageSummary, containers []engines.ContainerState, seen sightings, asOf time.Time) {
	listed := make(map[string]bool, len(images))
	t.byName = make(map[string]string, len(images))
	for _, i := range images {
		listed[i.ID] = true
		for _, name := range slices.Concat(i.Tags, i.Digests) {
			t.byName[name] = i.ID
		}
		if _, known := t.records[i.ID]; !known {
			at, pulled := seen.arrival(i, asOf)
			t.set(i.ID, Record{Arrived: at, Foreign: !pulled})
		}
	}
	for id := range t.records {
		if !listed[id] {
			t.drop(id)
		}
	}
	t.bring(seen.results)
	for id, at := range seen.images {
		t.use(id, at)
	}
	for name, times := range seen.names {
		t.use(t.byName[name], times[len(times)-1])
	}
	of := make(map[string]string, len(containers))
	for _, c := range containers {
		of[c.ID] = c.ImageID
	}
	for id, v := range seen.containers {
		image, there := of[id]
		if _, known := t.records[image]; !there || !known {
			image = t.resolve(v.image) // it was removed meanwhile
		}
		t.use(image, v.last)
	}
}

// resolve returns the ID of the image that a container was created with, "" where that is
// not known.
func (t *Table) resolve(image string) string {
	if _, known := t.records[image]; known {
		return image
	}
	return t.byName[fullName(image)]
}

func (t *Table) set(id string, r Record) {
	t.records[id] = r
	t.changed[id] = true
	delete(t.gone, id)
}

func (t *Table) drop(id string) {
	delete(t.records, id)
	delete(t.changed, id)
	t.gone[id] = true
}

func (t *Table) use(id string, at time.Time) {
	if r, known := t.records[id]; known && r.use(at) {
		t.set(id, r)
	}
}

// bring decides which images Towline brought: those that a job pulled, and that came by a
// pull while it did. All images and events must have been known since the job began.
func (t *Table) bring(results []result) {
	for _, v := range results {
		r, known := t.records[v.id]
		if !known || !v.pulled {
			continue
		}
		since := v.known || !t.connected.IsZero() && !v.began.Before(t.connected)
		here := !r.Arrived.Before(v.began) && !r.Arrived.After(v.finished)
		if (len(r.Brought) > 0 || since && here && !r.Foreign) && r.bring(v.name) {
			t.set(v.id, r)
		}
	}
}

// save keeps what has changed. What could not be saved is saved the next time.
func (t *Table) save() error {
	t.mu.Lock()
	values := make(map[string][]byte, len(t.changed))
	for id := range t.changed {
		value, err := json.Marshal(t.records[id])
		if err != nil {
			t.mu.Unlock()
			return err
		}
		values[id] = value
	}
	gone := slices.Collect(maps.Keys(t.gone))
	t.changed, t.gone = make(map[string]bool), make(map[string]bool)
	t.mu.Unlock()
	err := t.write(values, gone)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range values {
		if _, known := t.records[id]; known {
			t.changed[id] = true
		}
	}
	for _, id := range gone {
		if _, known := t.records[id]; !known {
			t.gone[id] = true
		}
	}
	return err
}

func (t *Table) write(values map[string][]byte, gone []string) error {
	if len(values) > 0 {
		if err := t.opts.Records.Save(Kind, values); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		return t.opts.Records.Delete(Kind, gone)
	}
	return nil
}
