package sets

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/definition"
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

// refreshes are the jobs that pull images of sets: those that begin, and those that go on.
type refreshes struct {
	service puller.Service
	runs    runs
	table   *table
	wake    wake
	changed func(puller.ImageChange) // nil for nobody
	log     logrus.FieldLogger

	mu      sync.Mutex // a leaf
	started []running  // jobs that Run has not taken up yet
}

// restore has a set go on as it was before a restart, which is not known yet. One that has
// changed since its last refresh is refreshed at once.
func (f *refreshes) restore(one *set, kept map[string]runRecord) {
	one.images = newImages(one.Definition, nil)
	r, ran := kept[one.name]
	if one.due = one.When.Open(now()); !ran || r.Fingerprint != one.Fingerprint {
		return
	}
	one.lastRun, one.job = r.LastRun, r.Job
	one.plan(now())
	if job, err := f.service.Job(r.Job); err == nil && !job.State.Ended() {
		one.running = true
		for _, i := range one.images {
			i.busy = true
		}
		f.start(running{set: one, job: r.Job, images: one.images})
	}
}

// start has a job followed, when Run takes it up.
func (f *refreshes) start(r running) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started = append(f.started, r)
}

// take returns the jobs that are to be followed.
func (f *refreshes) take() []running {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.started
	f.started = nil
	return taken
}

// beginDue begins a refresh of a set that is due, unless the set has changed meanwhile.
func (f *refreshes) beginDue(one *set) {
	f.table.saving.Lock()
	defer f.table.saving.Unlock()
	if f.table.get(one.name) == one {
		f.begin(one) // the set says why it has not begun
	}
}

// begin begins a refresh of all images, or returns the one that goes on. saving is held.
func (f *refreshes) begin(one *set) (puller.Job, error) {
	f.table.mu.Lock()
	going := ""
	if one.running {
		going = one.job
	}
	request := definition.Prewarm(one.SetRequest, f.table.request(one.images))
	f.table.mu.Unlock()
	if going != "" {
		if job, err := f.service.Job(going); err == nil && !job.State.Ended() {
			return job, nil
		}
	}
	at := now()
	job, err := f.service.Prewarm(request)
	if err != nil {
		f.table.mu.Lock()
		first := one.fault == ""
		one.stuck(err, at)
		f.table.mu.Unlock()
		if first {
			f.log.WithError(err).WithField("set", one.name).Error("the refresh of a set can't begin; it is tried again")
		}
		return job, err
	}
	f.runs.save(one.name, runRecord{one.Fingerprint, at, job.ID})
	f.table.mu.Lock()
	one.begun(job.ID, at)
	f.table.mu.Unlock()
	f.start(running{one, job.ID, one.images})
	f.wake.nudge()
	return job, nil
}

// follow waits for a job, and keeps what it tells of its images.
func (f *refreshes) follow(ctx context.Context, r running) {
	job, err := f.service.Wait(ctx, r.job)
	if err != nil && puller.KindOf(err) != puller.ErrNotFound {
		return // the daemon ends, and the job goes on with the next start
	}
	results := make([]outcome, len(r.images))
	for n, i := range r.images {
		if n < len(job.Images) {
			results[n] = outcomeOf(ctx, f.service, i.PullRequest, job.Images[n])
		}
	}
	var told []puller.ImageChange
	defer func() { tell(f.changed, told) }() // not under the lock
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	if r.set.job == r.job {
		r.set.running = false
	}
	at := now()
	for n, i := range r.images {
		i.busy = false
		// What was pulled though it was there had gone since the last look.
		vanished := i.vanished || i.state == keep.SetPresent && results[n].pulled.Source == puller.SourcePulled && results[n].digest == i.digest && i.digest != ""
		if results[n].apply(i, at); vanished && !i.vanished {
			told = append(told, puller.ImageChange{
				Action: puller.ImageRestored, ID: results[n].id, Names: []string{i.Image}, Digest: i.digest, Size: results[n].size, Set: r.set.name, Job: i.job,
			})
		}
	}
	f.table.tellEnd()
	f.wake.nudge()
}

// outcome is what a job tells of an image.
type outcome struct {
	pulled puller.ImageState
	digest string // of what is there now, "" where that is not known
	id     string // the image's, where it was pulled
	size   int64  // bytes, the same
	there  bool   // the engine has an image under the name
}

// outcomeOf asks what a child of a prewarm has brought.
func outcomeOf(ctx context.Context, service puller.Service, r puller.PullRequest, child puller.ImageState) outcome {
	o := outcome{pulled: child}
	if child.State == puller.StateSucceeded {
		o.there = true
		if job, err := service.Job(child.Job); err == nil && job.Result != nil {
			o.digest, o.id, o.size = job.Result.Digest, job.Result.ImageID, job.Result.Size
		}
		return o
	}
	if here, err := service.Image(ctx, r.Image, r.Platform, nil); err == nil {
		o.there, o.digest = true, digestOf(here, r.Image)
	}
	return o
}

// apply keeps an outcome. table.mu is held.
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
	i.putOff(at)
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
func (f *refreshes) repair(one *set) {
	f.table.saving.Lock()
	defer f.table.saving.Unlock()
	at := now()
	if f.table.get(one.name) != one || !one.When.Open(at).Equal(at) {
		return
	}
	f.table.mu.Lock()
	which := one.wanting(at)
	images := f.table.request(which)
	reasons := make([]string, len(which))
	for n, i := range which {
		reasons[n] = i.reason
	}
	f.table.mu.Unlock()
	if len(images) == 0 {
		return
	}
	request := definition.Prewarm(one.SetRequest, images)
	request.Skipped = nil
	job, err := f.service.Prewarm(request)
	if err == nil {
		defer f.start(running{one, job.ID, which}) // after the lock
		for n, i := range which {
			f.log.WithFields(logrus.Fields{"set": one.name, "image": i.Image, "job": job.ID, "reason": reasons[n]}).Info("an image of a set is pulled again")
		}
	}
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	for n, i := range which {
		if err != nil {
			i.putOff(at)
			i.reason = "its pull can't begin: " + err.Error()
			continue
		}
		i.busy, i.repairAt = true, at.Add(coolDown)
		if n < len(job.Children) {
			i.job = job.Children[n]
		}
	}
}
