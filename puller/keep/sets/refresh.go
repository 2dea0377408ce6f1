package sets

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

const (
	// coolDown is how long an image is left alone that was just pulled, or tried to be: it
	// doubles with each failure, up to longestWait.
	coolDown    = 5 * time.Minute
	longestWait = time.Hour
	// beginAgain is how long after a refresh could not begin it is tried again.
	beginAgain = time.Minute
)

// running is a job that pulls images of a set.
type running struct {
	set    *set
	job    string
	images []*image // in the order of the job
}

// RefreshSet implements keep.Service.
func (s *Sets) RefreshSet(name string) (puller.Job, error) {
	s.saving.Lock()
	defer s.saving.Unlock()
	one := s.get(name)
	if one == nil {
		return puller.Job{}, errNoSet(name)
	}
	return s.refresh(one)
}

// refresh begins a refresh of all images, or returns the one that goes on. saving is held.
func (s *Sets) refresh(one *set) (puller.Job, error) {
	s.mu.Lock()
	going := ""
	if one.running {
		going = one.job
	}
	request := prewarmOf(one.SetRequest, one.Images)
	s.mu.Unlock()
	if going != "" {
		if job, err := s.o.Service.Job(going); err == nil && !job.State.Ended() {
			return job, nil
		}
	}
	at := now()
	job, err := s.o.Service.Prewarm(request)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if one.fault == "" {
			s.o.Log.WithError(err).WithField("set", one.name).Error("the refresh of a set can't begin; it is tried again")
		}
		one.fault, one.due = err.Error(), one.when.Open(at.Add(beginAgain))
		return job, err
	}
	s.saveRun(one, runRecord{one.fingerprint, at, job.ID})
	s.mu.Lock()
	defer s.mu.Unlock()
	one.job, one.running, one.lastRun, one.fault = job.ID, true, at, ""
	one.plan(at)
	for _, i := range one.images {
		i.busy = true
	}
	s.started = append(s.started, running{one, job.ID, one.images})
	s.nudge()
	return job, nil
}

// follow waits for a job, and keeps what it tells of its images.
func (s *Sets) follow(ctx context.Context, r running) {
	job, err := s.o.Service.Wait(ctx, r.job)
	if err != nil && puller.KindOf(err) != puller.ErrNotFound {
		return // the daemon ends, and the job goes on with the next start
	}
	results := make([]outcome, len(r.images))
	for n, i := range r.images {
		if n < len(job.Images) {
			results[n] = s.outcome(ctx, i.PullRequest, job.Images[n])
		}
	}
	var tell []puller.ImageChange
	defer func() { s.tell(tell) }() // not under the lock
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.set.job == r.job {
		r.set.running = false
	}
	at := now()
	for n, i := range r.images {
		i.busy = false
		// What was pulled though it was there had gone since the last look.
		vanished := i.vanished || i.state == keep.SetPresent && results[n].pulled.Source == puller.SourcePulled && results[n].digest == i.digest && i.digest != ""
		if results[n].apply(i, at); vanished && !i.vanished {
			tell = append(tell, puller.ImageChange{
				Action: puller.ImageRestored, ID: results[n].id, Names: []string{i.Image}, Digest: i.digest, Size: results[n].size, Set: r.set.name, Job: i.job,
			})
		}
	}
	s.nudge()
}

// outcome is what a job tells of an image.
type outcome struct {
	pulled puller.ImageState
	digest string // of what is there now, "" where that is not known
	id     string // the image's, where it was pulled
	size   int64  // bytes, the same
	there  bool   // the engine has an image under the name
}

// outcome asks what a child of a prewarm has brought.
func (s *Sets) outcome(ctx context.Context, r puller.PullRequest, child puller.ImageState) outcome {
	o := outcome{pulled: child}
	if child.State == puller.StateSucceeded {
		o.there = true
		if job, err := s.o.Service.Job(child.Job); err == nil && job.Result != nil {
			o.digest, o.id, o.size = job.Result.Digest, job.Result.ImageID, job.Result.Size
		}
		return o
	}
	if here, err := s.o.Service.Image(ctx, r.Image, r.Platform, nil); err == nil {
		o.there, o.digest = true, digestOf(here, r.Image)
	}
	return o
}

// apply keeps an outcome. Sets.mu is held.
func (o outcome) apply(i *image, at time.Time) {
	if o.pulled.State == "" {
		return // nothing is known of the job any more: the next look finds out
	}
	i.job, i.checked, i.listed = o.pulled.Job, at, "" // the next look takes up what is there
	if o.pulled.State == puller.StateSucceeded {
		i.state, i.reason, i.digest, i.proven, i.failures, i.retry = keep.SetPresent, "", o.digest, o.digest, 0, false
		i.vanished, i.idle = false, false
		i.repairAt = at.Add(coolDown)
		return
	}
	i.failures++
	i.repairAt = at.Add(min(longestWait, coolDown<<min(i.failures-1, 10)))
	i.state, i.digest = keep.SetFailed, o.digest
	if o.there {
		i.state = keep.SetStale
	}
	i.reason, i.retry = "it was not pulled", false
	if e := o.pulled.Error; e != nil {
		i.reason = e.Message
		// What will fail again is left to the schedule, unless the image is missing.
		i.retry = !o.there || e.Retryable
	}
}

// repair pulls images of a set that are missing, or whose last pull failed for now. saving
// is not held.
func (s *Sets) repair(one *set) {
	s.saving.Lock()
	defer s.saving.Unlock()
	at := now()
	var images puller.Images
	var which []*image
	s.mu.Lock()
	current := s.all[one.name] == one && !one.running
	for _, i := range one.images {
		wanted := i.state == keep.SetMissing && i.reason != notLooked || i.state == keep.SetFailed || i.retry
		if current && wanted && !i.busy && !i.idle && !i.repairAt.After(at) {
			images, which = append(images, i.PullRequest), append(which, i)
		}
	}
	request := prewarmOf(one.SetRequest, images)
	open := one.when.Open(at).Equal(at)
	s.mu.Unlock()
	if len(images) == 0 || !open {
		return
	}
	request.Skipped = nil
	job, err := s.o.Service.Prewarm(request)
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, i := range which {
		if err != nil {
			i.failures++
			i.repairAt = at.Add(min(longestWait, coolDown<<min(i.failures-1, 10)))
			i.reason = "its pull can't begin: " + err.Error()
			continue
		}
		i.busy, i.repairAt = true, at.Add(coolDown)
		if n < len(job.Children) {
			i.job = job.Children[n]
		}
		s.o.Log.WithFields(logrus.Fields{"set": one.name, "image": i.Image, "job": job.ID, "reason": i.reason}).Info("an image of a set is pulled again")
	}
	if err == nil {
		s.started = append(s.started, running{one, job.ID, which})
	}
}
