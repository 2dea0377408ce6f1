package usage

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
)

// evidence is what the next start needs to say who brought which image, where this process
// is killed. It is on disk a moment after each event of an image. The jobs are in their
// store.
type evidence struct {
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
	// How far back, and among how many jobs, a start looks for pulls since the checkpoint.
	jobsBack = 24 * time.Hour
	maxJobs  = 5000
)

// loadEvidence reads what an earlier process has left.
func (t *Table) loadEvidence() error {
	values, err := t.opts.Records.Load(evidenceKind)
	if err != nil {
		return err
	}
	var e evidence
	if value, ok := values[evidenceKey]; ok {
		if err := json.Unmarshal(value, &e); err != nil {
			t.opts.Log.WithError(err).Warn("what was seen of images before the start can't be read; who brought them is not certain")
			e = evidence{}
		}
	}
	for _, seen := range e.Seen {
		t.seen.event(engines.Event{Type: engines.EventImage, Action: seen.Action, ID: seen.ID, Time: seen.Time})
		if seen.Action == "delete" {
			t.drop(seen.ID)
		}
	}
	if e.Until.IsZero() {
		e.Until = time.Now().UTC() // it was killed
	}
	t.mu.Lock()
	t.evidence = e
	t.mu.Unlock()
	if err := t.writeEvidence(); err != nil { // a full disk must not keep the daemon from its start
		t.opts.Log.WithError(err).Warn("what is seen of images can't be saved; it is tried again")
		t.mu.Lock()
		t.missed()
		t.mu.Unlock()
	}
	return nil
}

// Recall takes up the pulls of jobs that no record has yet: those that ended right before the
// process was killed. It is called once, after Load and before Run and the first Snapshot.
func (t *Table) Recall(service puller.Service) {
	t.mu.Lock()
	e := t.evidence
	t.mu.Unlock()
	if e.Since.IsZero() {
		return
	}
	f := puller.Filter{State: puller.StateSucceeded, Limit: 1000}
	for range maxJobs / f.Limit {
		page, next, err := service.Jobs(f)
		if err != nil {
			t.opts.Log.WithError(err).Warn("the last jobs can't be read; what they brought counts as somebody else's")
			return
		}
		t.mu.Lock()
		for _, j := range page {
			// What was noted a moment before the checkpoint may not be in it.
			if j.FinishedAt.After(e.Checkpoint.Add(-batch)) && j.FinishedAt.Before(e.Until) {
				t.seen.recall(&j, e)
			}
		}
		t.mu.Unlock()
		if next == "" || page[len(page)-1].CreatedAt.Before(e.Checkpoint.Add(-jobsBack)) {
			return
		}
		f.Cursor = next
	}
}

// recall notes a job that had ended before the start.
func (s *sightings) recall(j *puller.Job, e evidence) {
	n := len(s.results)
	s.job(j)
	if len(s.results) > n {
		r := &s.results[n]
		r.known = !r.began.Before(e.Since)
		// The engine's event may be lost, but not one from before the checkpoint: what that
		// brought has a record, or has gone since, of which the evidence says nothing any more.
		if r.pulled && !r.finished.Before(e.Checkpoint) {
			s.pull(r.name, r.finished)
		}
	}
}

// witness keeps an event of an image, until the next checkpoint. The lock is held.
func (t *Table) witness(v engines.Event) {
	switch v.Action {
	case "untag", "prune":
		return
	}
	if len(t.evidence.Seen) >= maxEvidence {
		t.evidence.Since = time.Time{}
		return
	}
	t.evidence.Seen = append(t.evidence.Seen, imageSeen{v.Action, puller.ClipTo(v.ID, puller.MaxReference), v.Time.UTC()})
	select {
	case t.seenMore <- struct{}{}:
	default:
	}
}

// missed notes that events were missed. The lock is held.
func (t *Table) missed() {
	t.connected = time.Time{}
	t.evidence.Since = time.Time{}
	select {
	case t.seenMore <- struct{}{}:
	default:
	}
}

// checkpoint notes that what was seen before it began is on disk: the first n events, and all
// since connected.
func (t *Table) checkpoint(began, connected time.Time, n int) error {
	t.mu.Lock()
	if !t.connected.Equal(connected) {
		connected = time.Time{} // events were missed meanwhile
	}
	e := &t.evidence
	same := n == 0 && e.Since.Equal(connected) && e.Until.IsZero()
	if !same {
		e.Seen = slices.Clone(e.Seen[n:])
		e.Since, e.Until, e.Checkpoint = connected.UTC(), time.Time{}, began.UTC()
	}
	t.mu.Unlock()
	if same {
		return nil
	}
	return t.writeEvidence()
}

// writeEvidence saves the evidence.
func (t *Table) writeEvidence() error {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	value, err := json.Marshal(t.evidence)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	return t.opts.Records.Save(evidenceKind, map[string][]byte{evidenceKey: value})
}
