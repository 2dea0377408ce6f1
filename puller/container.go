package puller

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func (p *Puller) sweepLater() {
	if p.ctx.Err() == nil && p.sweeping.CompareAndSwap(false, true) {
		p.work.Go(func() {
			if sleep(p.ctx, removeLimit) == nil {
				p.sweep()
			}
		})
	}
}

// removeAll removes the containers of a run. It returns false if it could not.
func (p *Puller) removeAll(j *job) bool {
	ctx, cancel := context.WithTimeout(p.ctx, removeLimit)
	defer cancel()
	var err error
	for wait := leastEngineWait; ; wait = min(2*wait, mostEngineWait) {
		if err = p.remove(ctx, labelJob, j.id, func(ContainerState) bool { return true }); err == nil {
			return true
		}
		if sleep(ctx, wait) != nil {
			break
		}
	}
	if p.ctx.Err() != nil {
		return false // the next start removes it
	}
	p.tell(j, fmt.Sprintf("the container could not be removed yet; towline goes on trying (%v)", inner(err)))
	p.log.WithField("job", j.id).WithError(err).Warn("a container could not be removed")
	return false
}

// remove removes containers that carry a label.
func (p *Puller) remove(ctx context.Context, label, value string, which func(ContainerState) bool) error {
	found, err := p.engine.Containers(ctx, label, value)
	errs := []error{err}
	for _, c := range found {
		if c.Labels[labelInstance] == p.opts.Instance && which(c) {
			errs = append(errs, p.engine.Remove(ctx, c.ID))
		}
	}
	return errors.Join(errs...)
}

// awaitContainer waits for an engine that went away, and finds the run's
// container in it.
func (p *Puller) awaitContainer(j *job) (ContainerState, error) {
	began := time.Now()
	for wait := leastEngineWait; ; wait = min(2*wait, mostEngineWait) {
		found, err := p.engine.Containers(j.context(), labelJob, j.id)
		if c, ok := p.pick(j, found); ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			j.run.container = c.ID
			return c, nil
		}
		if err == nil {
			return ContainerState{}, errContainerGone
		}
		if limit := p.opts.FirstByteTimeout; KindOf(err) != EngineUnavailable || limit > 0 && time.Since(began) >= limit {
			return ContainerState{}, err
		}
		if err := sleep(j.context(), wait); err != nil {
			return ContainerState{}, err
		}
	}
}

// pick returns the container of a run. An engine that went away may have left
// one beside it that was never started: what runs is not run twice.
func (p *Puller) pick(j *job, found []ContainerState) (picked ContainerState, ok bool) {
	for _, c := range found {
		known := j.run.container == "" || c.ID == j.run.container
		if known && c.Labels[labelInstance] == p.opts.Instance && (!ok || c.Started && !picked.Started) {
			picked, ok = c, true
		}
	}
	return picked, ok
}

var errContainerGone = Errorf(Internal, "the container is gone, and how it ended is not known: others have removed it")

// sweep removes the containers of runs that are no jobs any more: a crash has
// left them, or an engine that was away.
func (p *Puller) sweep() {
	for wait := leastEngineWait; ; wait = min(2*wait, removeLimit) {
		p.sweeping.Store(false) // what is left from now on may be missed
		err := p.remove(p.ctx, labelInstance, p.opts.Instance, func(c ContainerState) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			j := p.jobs[c.Labels[labelJob]]
			return j == nil || j.outcome != nil
		})
		if err == nil {
			return
		}
		p.sweeping.Store(true)
		if sleep(p.ctx, wait) != nil {
			return
		}
	}
}
