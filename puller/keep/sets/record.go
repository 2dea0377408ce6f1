package sets

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/definition"
	"github.com/towline/towline/puller/store"
)

// The kinds of records. Their keys are names of sets.
const (
	setKind = "set"     // what calls, and the fleet, have made
	runKind = "set-run" // how the refreshes of any set stand
)

// setRecord is a set as it is kept.
type setRecord struct {
	Request keep.SetRequest  `json:"request"`
	Source  keep.SetSource   `json:"source,omitempty"` // SetFromAPI where it is left out
	Skipped []puller.Skipped `json:"skipped,omitempty"`
	Caller  string           `json:"caller,omitempty"`
	Changed time.Time        `json:"changed"`
	// Tags are those that the fleet keeps at digests, by REPOSITORY:TAG.
	Tags map[string]string `json:"tags,omitempty"`
}

// runRecord is how the refreshes of a set stand.
type runRecord struct {
	Fingerprint string    `json:"fingerprint"` // of the definition that was refreshed
	LastRun     time.Time `json:"last_run"`
	Job         string    `json:"job"`
}

// load reads the sets that calls have made. One that the daemon's rules no longer allow is
// kept, and its refreshes fail.
func load(o Options, t *table, f *refreshes) error {
	values, err := o.Records.Load(setKind)
	if err != nil {
		return err
	}
	kept, err := f.runs.load()
	if err != nil {
		return err
	}
	for name, value := range values {
		var r setRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("the set %s: %w", name, err)
		}
		r.Request.Caller, r.Request.Skipped = r.Caller, r.Skipped
		d, err := definition.Define(o.Host, name, r.Request)
		if err != nil {
			o.Log.WithError(err).WithField("set", name).Error("a set can't be used any more; it is left out; make it again")
			continue
		}
		one := &set{name: name, source: cmp.Or(r.Source, keep.SetFromAPI), tags: r.Tags, changed: r.Changed, Definition: d}
		f.restore(one, kept)
		t.put(one)
	}
	return nil
}

// saveSet keeps what a call, or the fleet, has made.
func saveSet(to store.Records, one *set) error {
	value, err := json.Marshal(setRecord{Request: one.SetRequest, Source: one.source, Skipped: one.Skipped, Caller: one.Caller, Changed: one.changed, Tags: one.tags})
	if err != nil {
		return err
	}
	return to.Save(setKind, map[string][]byte{one.name: value})
}

// runs are the records of the last refreshes on disk.
type runs struct {
	records store.Records
	log     logrus.FieldLogger
}

// load returns them by set.
func (r runs) load() (map[string]runRecord, error) {
	values, err := r.records.Load(runKind)
	if err != nil {
		return nil, err
	}
	kept := make(map[string]runRecord)
	for name, value := range values {
		var one runRecord
		if err := json.Unmarshal(value, &one); err != nil {
			return nil, fmt.Errorf("the runs of the set %s: %w", name, err)
		}
		kept[name] = one
	}
	return kept, nil
}

// save keeps how the refreshes of a set stand. Without it, a restart refreshes once more.
func (r runs) save(name string, one runRecord) {
	value, err := json.Marshal(one)
	if err == nil {
		err = r.records.Save(runKind, map[string][]byte{name: value})
	}
	if err != nil {
		r.log.WithError(err).WithField("set", name).Warn("the refresh of a set could not be kept; the next start refreshes it again")
	}
}

// forget deletes the record of a set whose definition is gone.
func (r runs) forget(name string) {
	if err := r.records.Delete(runKind, []string{name}); err != nil {
		r.log.WithError(err).WithField("set", name).Warn("the last refresh of a set that was deleted is still kept")
	}
}
