package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/retry"
)

var errContainerGone = puller.Errorf(puller.ErrInternal, "the container is gone, and how it ended is not known: others have removed it")

// awaitContainer waits for an engine that went away, and finds the run's container in
// it.
func (r container) awaitContainer() (engines.ContainerState, error) {
	ctx := r.job.Context()
	wait := retry.Backoff{Limit: r.runs.o.EngineTimeout}
	for {
		found, err := r.runs.o.Engine.Containers(ctx, engines.LabelJob, r.job.ID())
		if c, ok := r.pick(found); ok {
			r.found(c.ID)
			return c, nil
		}
		switch {
		case err == nil:
			return engines.ContainerState{}, errContainerGone
		case puller.KindOf(err) != puller.ErrEngineUnavailable:
			return engines.ContainerState{}, err
		case !wait.Wait(ctx):
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return engines.ContainerState{}, err
		}
	}
}

// pick returns the container of the run. An engine that went away may have left one
// beside it that was never started: what runs is not run twice.
func (r container) pick(found []engines.ContainerState) (picked engines.ContainerState, ok bool) {
	kept, id := r.kept(), r.job.ID()
	for _, c := range found {
		if kept.Owns(c, id, false) && (!ok || c.Started && !picked.Started) {
			picked, ok = c, true
		}
	}
	return picked, ok
}

// removeAll removes the containers of the run. It returns false if it could not.
func (r container) removeAll() bool {
	s := r.runs
	ctx, cancel := context.WithTimeout(s.o.Context, removeLimit)
	defer cancel()
	var wait retry.Backoff
	var err error
	for {
		if err = r.remove(ctx); err == nil {
			return true
		}
		if !wait.Wait(ctx) {
			break
		}
	}
	if s.o.Context.Err() != nil {
		return false // the next start removes it
	}
	r.notice(fmt.Sprintf("the container could not be removed yet; towline goes on trying (%v)", puller.Inner(err)))
	s.o.Log.WithField("job", r.job.ID()).WithError(err).Warn("a container could not be removed")
	return false
}

// remove removes the containers of the run.
func (r container) remove(ctx context.Context) error {
	kept, id, engine := r.kept(), r.job.ID(), r.runs.o.Engine
	found, err := engine.Containers(ctx, engines.LabelJob, id)
	errs := []error{err}
	if kept.Container != "" { // whatever is listed
		errs = append(errs, engine.Remove(ctx, kept.Container))
	}
	for _, c := range found {
		if kept.Owns(c, id, false) && c.ID != kept.Container {
			errs = append(errs, engine.Remove(ctx, c.ID))
		}
	}
	return errors.Join(errs...)
}

// sweepLater has Sweep called in a while.
func (s *Runs) sweepLater() {
	if s.o.Context.Err() == nil && s.sweeping.CompareAndSwap(false, true) {
		s.o.Go(func() {
			if retry.Sleep(s.o.Context, removeLimit) == nil {
				s.Sweep()
			}
		})
	}
}

// Sweep removes the containers of runs that have ended, which a crash has left, or an
// engine that did not answer. It returns when there are none, or the daemon ends.
func (s *Runs) Sweep() {
	wait := retry.Backoff{Most: removeLimit}
	for {
		s.sweeping.Store(false) // what is left from now on may be missed
		if s.removeEnded() == nil {
			return
		}
		s.sweeping.Store(true)
		if !wait.Wait(s.o.Context) {
			return
		}
	}
}

func (s *Runs) removeEnded() error {
	found, err := s.o.Engine.Containers(s.o.Context, engines.LabelInstance, s.o.Instance())
	errs := []error{err}
	for _, c := range found {
		id := c.Labels[engines.LabelJob]
		ended, err := s.o.Ended(id)
		if err == nil && ended != nil && ended.Owns(c, id, true) {
			err = s.o.Engine.Remove(s.o.Context, c.ID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
