package sets

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
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
}

// runRecord is how the refreshes of a set stand.
type runRecord struct {
	Fingerprint string    `json:"fingerprint"` // of the definition that was refreshed
	LastRun     time.Time `json:"last_run"`
	Job         string    `json:"job"`
}

// load reads the sets that calls have made. One that the daemon's rules no longer allow is
// kept, and its refreshes fail.
func (s *Sets) load() error {
	kept, err := s.o.Records.Load(setKind)
	if err != nil {
		return err
	}
	runs, err := s.runs()
	if err != nil {
		return err
	}
	for name, value := range kept {
		var r setRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("the set %s: %w", name, err)
		}
		r.Request.Caller, r.Request.Skipped = r.Caller, r.Skipped
		d, err := s.define(name, r.Request)
		if err != nil {
			s.o.Log.WithError(err).WithField("set", name).Error("a set can't be used any more; it is left out; make it again")
			continue
		}
		one := &set{name: name, source: cmp.Or(r.Source, keep.SetFromAPI), changed: r.Changed, definition: d}
		s.restore(one, runs)
		s.put(one)
	}
	return nil
}

func (s *Sets) runs() (map[string]runRecord, error) {
	values, err := s.o.Records.Load(runKind)
	if err != nil {
		return nil, err
	}
	runs := make(map[string]runRecord)
	for name, value := range values {
		var r runRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return nil, fmt.Errorf("the runs of the set %s: %w", name, err)
		}
		runs[name] = r
	}
	return runs, nil
}

// restore has a set go on as it was before a restart, which is not known yet. One that has
// changed since its last refresh is refreshed at once. mu is not held.
func (s *Sets) restore(one *set, runs map[string]runRecord) {
	one.images = newImages(one.definition, nil)
	r, ran := runs[one.name]
	if one.due = one.when.Open(now()); !ran || r.Fingerprint != one.fingerprint {
		return
	}
	one.lastRun, one.job = r.LastRun, r.Job
	one.plan(now())
	if job, err := s.o.Service.Job(r.Job); err == nil && !job.State.Ended() {
		one.running = true
		for _, i := range one.images {
			i.busy = true
		}
		s.mu.Lock()
		s.started = append(s.started, running{set: one, job: r.Job, images: one.images})
		s.mu.Unlock()
	}
}

// save keeps what a call, or the fleet, has made.
func (s *Sets) save(one *set) error {
	value, err := json.Marshal(setRecord{Request: one.SetRequest, Source: one.source, Skipped: one.Skipped, Caller: one.Caller, Changed: one.changed})
	if err != nil {
		return err
	}
	return s.o.Records.Save(setKind, map[string][]byte{one.name: value})
}

// saveRun keeps how the refreshes of a set stand. Without it, a restart refreshes once more.
func (s *Sets) saveRun(one *set, r runRecord) {
	value, err := json.Marshal(r)
	if err == nil {
		err = s.o.Records.Save(runKind, map[string][]byte{one.name: value})
	}
	if err != nil {
		s.o.Log.WithError(err).WithField("set", one.name).Warn("the refresh of a set could not be kept; the next start refreshes it again")
	}
}
