package lease

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

// Service is a puller.Service whose jobs take the leases that they are asked for with. Where
// an image of theirs is being removed, they wait for that first.
type Service struct {
	puller.Service
	leases *Leases
}

// Jobs returns the Service of the leases, with jobs that take leases.
func (l *Leases) Jobs() *Service { return &Service{l.o.Service, l} }

// Pull implements puller.Service.
func (s *Service) Pull(r puller.PullRequest) (puller.Job, error) {
	return s.accept(r.Lease, r.Caller, puller.Images{{Image: r.Image}}, func() (puller.Job, error) { return s.Service.Pull(r) })
}

// Run implements puller.Service.
func (s *Service) Run(r puller.RunRequest) (puller.Job, error) {
	return s.accept(r.Lease, r.Caller, puller.Images{{Image: r.Image}}, func() (puller.Job, error) { return s.Service.Run(r) })
}

// Prewarm implements puller.Service.
func (s *Service) Prewarm(r puller.PrewarmRequest) (puller.Job, error) {
	if err := checkOwn(r.Images); err != nil {
		return puller.Job{}, err
	}
	return s.accept(r.Lease, r.Caller, r.Images, func() (puller.Job, error) { return s.Service.Prewarm(r) })
}

// Plan implements puller.Service.
func (s *Service) Plan(ctx context.Context, r puller.PrewarmRequest) (puller.Plan, error) {
	err := checkOwn(r.Images)
	if err == nil && r.Lease != "" {
		_, err = keep.ParseLease("lease", r.Lease)
	}
	if err != nil {
		return puller.Plan{}, err
	}
	return s.Service.Plan(ctx, r)
}

// checkOwn refuses images of a list that ask for a lease of their own.
func checkOwn(all puller.Images) error {
	var faults puller.ImageFaults
	for i, one := range all {
		if one.Lease != "" {
			faults.Add(i, puller.Errorf(puller.ErrInvalidRequest, "lease: an image of a list has none of its own; write it beside images"))
		}
	}
	return faults.Err()
}

// accept has a job accepted, with a lease if one is asked for. The lease is there before the
// job is, so that no image comes that is not kept. An image that is being removed has gone
// before the job looks for it.
func (s *Service) accept(text, caller string, all puller.Images, submit func() (puller.Job, error)) (puller.Job, error) {
	var ttl time.Duration
	if text != "" {
		var err error
		if ttl, err = keep.ParseLease("lease", text); err != nil {
			return puller.Job{}, err
		}
	}
	images := make(puller.Images, 0, len(all))
	called := make([]string, 0, len(all))
	for _, one := range all {
		full, _, err := puller.ParseImage(one.Image)
		if err != nil {
			return submit() // which refuses it, and says all that is wrong
		}
		images, called = append(images, puller.PullRequest{Image: full}), append(called, names.EngineRef(full))
	}
	release, err := s.leases.o.Claims.Need(context.Background(), called)
	if err != nil {
		return puller.Job{}, err
	}
	defer release()
	if text == "" {
		return submit()
	}
	k, err := s.leases.add(record{Images: imagesOf(images), TTL: ttl, Caller: caller})
	if err != nil {
		return puller.Job{}, err
	}
	job, err := submit()
	s.leases.belongs(k, job, err)
	return job, err
}

// belongs gives a lease to the job that was accepted with it, or ends it if none was. A job
// that was asked for twice, with one idempotency key, keeps its first lease.
func (l *Leases) belongs(k *kept, job puller.Job, refusal error) {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	other := l.all[l.byJob[job.ID]]
	l.mu.Unlock()
	if refusal != nil || other != nil && !other.expired(l.wall()) {
		if err := l.forget([]string{k.id}); err != nil {
			l.o.Log.WithError(err).WithField("lease", k.id).Warn("a lease of a job that was not accepted could not be dropped; it expires")
		}
		return
	}
	owned := *k
	owned.Job = job.ID
	if err := l.save(&owned); err != nil {
		// The lease is on disk without its job. What is in memory counts until the next
		// sweep saves it.
		l.o.Log.WithError(err).WithField("lease", k.id).Error("the job of a lease could not be kept")
		owned.unsaved = true
		l.mu.Lock()
		l.put(&owned)
		l.mu.Unlock()
	}
	select {
	case l.taken <- struct{}{}:
	default:
	}
}
