package jobs

import (
	"cmp"
	"math"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
)

const (
	pruneEvery = time.Hour
	// pruneAfter is how many ended jobs are kept before the store is pruned ahead of
	// its time.
	pruneAfter = 1000
)

// retire counts a job that has ended and is saved: there may be too many of them.
func (w *writer) retire(j *job.Job) {
	if e := w.s.table.Get(j.ID()); e != nil {
		w.ended++
		w.endedBytes += w.s.table.Retire(e)
	}
}

// prune drops ended jobs that are kept no longer.
func (w *writer) prune() {
	o := &w.s.opts
	w.ended, w.endedBytes = 0, 0
	var before time.Time
	if o.KeepFor > 0 {
		before = time.Now().Add(-o.KeepFor)
	}
	n, err := w.s.store.Prune(before, cmp.Or(o.KeepJobs, math.MaxInt), cmp.Or(o.KeepBytes, math.MaxInt64))
	if err != nil {
		w.s.log.WithError(err).Error("old jobs could not be dropped from the store")
		// A store that is damaged takes nothing any more. Refuse jobs from now on.
		if fault := w.store(nil); fault != nil {
			w.mu.Lock()
			w.fault = fault
			w.mu.Unlock()
			w.again.Reset(saveAgain)
		}
	} else if n > 0 {
		w.dropOutputs()
		w.s.log.WithField("jobs", n).Debug("old jobs dropped from the store")
	}
}

// dropOutputs removes the output of runs that are not known any more.
func (w *writer) dropOutputs() {
	w.s.outputs.Drop(func(id string) bool {
		if w.s.table.Get(id) != nil {
			return true
		}
		_, err := w.s.store.Record(id)
		return puller.KindOf(err) != puller.ErrNotFound
	})
}
