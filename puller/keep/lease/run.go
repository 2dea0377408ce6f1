package lease

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
)

const (
	// sweepEvery is how often leases that have expired are dropped, and changes are saved
	// that could not be.
	sweepEvery = time.Minute
	// jobsEvery is how often jobs with leases are looked at, and a second more for so many
	// of them:
	jobsEvery   = 2 * time.Second
	jobsASecond = 500
)

// Run ends leases that expire, and renews those whose job succeeds, until ctx ends.
func (l *Leases) Run(ctx context.Context) error {
	var swept time.Time
	for {
		waiting := l.waiting()
		for _, id := range waiting {
			if ctx.Err() != nil {
				return nil
			}
			l.settle(id)
		}
		if time.Since(swept) >= sweepEvery {
			l.sweep()
			swept = time.Now()
		}
		wait := sweepEvery
		if len(waiting) > 0 {
			wait = jobsEvery + time.Duration(len(waiting)/jobsASecond)*time.Second
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.taken:
		case <-time.After(wait):
		}
	}
}

// waiting returns the leases that are kept for jobs.
func (l *Leases) waiting() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, k := range l.all {
		if k.waits() {
			ids = append(ids, id)
		}
	}
	return ids
}

// settle renews a lease if its job has succeeded, and lets it expire if the job has failed
// or is not known any more.
func (l *Leases) settle(id string) {
	k, err := l.get(id)
	if err != nil || !k.waits() {
		return
	}
	job, err := l.o.Service.Job(k.Job)
	switch {
	case puller.KindOf(err) == puller.ErrNotFound:
		_, err = l.change(id, func(r *record) { r.JobEnded = true }, time.Time{})
	case err != nil, !job.State.Ended():
		return
	case job.State == puller.StateSucceeded:
		ids := l.brought(job)
		_, err = l.change(id, func(r *record) {
			r.JobEnded, r.ImageIDs = true, compactIDs(append(ids, r.ImageIDs...))
		}, job.FinishedAt)
	default:
		_, err = l.change(id, func(r *record) { r.JobEnded = true }, time.Time{})
	}
	if err != nil && puller.KindOf(err) != puller.ErrNotFound {
		l.o.Log.WithError(err).WithField("lease", id).Error("the end of a lease's job could not be kept; the lease stays until it can")
	}
}

// brought returns the IDs of the images that a job has proven to be there.
func (l *Leases) brought(job puller.Job) (ids []string) {
	if job.Result != nil {
		ids = append(ids, job.Result.ImageID)
	}
	for _, child := range job.Images {
		if one, err := l.o.Service.Job(child.Job); err == nil && one.Result != nil {
			ids = append(ids, one.Result.ImageID)
		}
	}
	return ids
}

// sweep drops what has expired, and saves what could not be saved.
func (l *Leases) sweep() {
	l.saving.Lock()
	defer l.saving.Unlock()
	var over []string
	var unsaved []*kept
	wall := l.wall()
	l.mu.Lock()
	for id, k := range l.all {
		if k.expired(wall) {
			over = append(over, id)
			continue
		}
		if now := *k; !k.waits() && k.Expires.Sub(wall) > time.Until(k.deadline)+sweepEvery {
			// The clock was set back.
			now.Expires, now.unsaved = wall.Add(time.Until(k.deadline)), true
			unsaved = append(unsaved, &now)
		} else if k.unsaved {
			unsaved = append(unsaved, &now)
		}
	}
	l.mu.Unlock()
	if len(over) > 0 {
		if err := l.forget(over); err != nil {
			l.o.Log.WithError(err).Error("leases that have expired could not be dropped")
		}
	}
	for _, k := range unsaved {
		k.unsaved = false
		if err := l.save(k); err != nil {
			l.o.Log.WithError(err).WithField("lease", k.id).Error("a lease could not be kept")
			break // the others wait for the next time
		}
	}
}
