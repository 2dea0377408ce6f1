package usage

import (
	"time"

	"github.com/towline/towline/puller"
)

const (
	// How far back, and among how many jobs, a start looks for pulls since the checkpoint.
	jobsBack = 24 * time.Hour
	maxJobs  = 5000
)

// Recall takes up the pulls of jobs that no record has yet: those that ended right before the
// process was killed. It is called once, after Load and before Run and the first Snapshot.
func (t *Table) Recall(service puller.Service) {
	e := t.evidence.last()
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
func (s *sightings) recall(j *puller.Job, e evidenceRecord) {
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
