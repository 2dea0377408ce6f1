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
		if err = p.remove(ctx, j); err == nil {
			return true
		}
		if sleep(ctx, wait) != nil {
			break
		}
	}
	if p.ctx.Err() != nil {
		return false // the next start removes it
	}
	p.tell(j, fmt.Sprintf("the container could not be removed yet; towline goes on trying (%v)", Inner(err)))
	p.log.WithField("job", j.id).WithError(err).Warn("a container could not be removed")
	return false
}

// remove removes the containers of a run.
func (p *Puller) remove(ctx context.Context, j *job) error {
	p.mu.Lock()
	run := j.run.record()
	p.mu.Unlock()
	found, err := p.engine.Containers(ctx, labelJob, j.id)
	errs := []error{err}
	if run.Container != "" { // whatever is listed
		errs = append(errs, p.engine.Remove(ctx, run.Container))
	}
	for _, c := range found {
		if run.Owns(c, j.id, false) && c.ID != run.Container {
			errs = append(errs, p.engine.Remove(ctx, c.ID))
		}
	}
	return errors.Join(errs...)
}

// found notes the ID of a run's container. The admission lock is held.
func (p *Puller) found(j *job, id string) {
	j.run.container = id
	p.ledger.touch(j)
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
			p.found(j, c.ID)
			return c, nil
		}
		if err == nil {
			return ContainerState{}, errContainerGone
		}
		if limit := p.opts.FirstByteTimeout; KindOf(err) != ErrEngineUnavailable || limit > 0 && time.Since(began) >= limit {
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
	p.mu.Lock()
	run := j.run.record()
	p.mu.Unlock()
	for _, c := range found {
		if run.Owns(c, j.id, false) && (!ok || c.Started && !picked.Started) {
			picked, ok = c, true
		}
	}
	return picked, ok
}

var errContainerGone = Errorf(ErrInternal, "the container is gone, and how it ended is not known: others have removed it")

// sweep removes the containers of runs that have ended: a crash has left them,
// or an engine that was away.
func (p *Puller) sweep() {
	for wait := leastEngineWait; ; wait = min(2*wait, removeLimit) {
		p.sweeping.Store(false) // what is left from now on may be missed
		if p.removeEnded() == nil {
			return
		}
		p.sweeping.Store(true)
		if sleep(p.ctx, wait) != nil {
			return
		}
	}
}

func (p *Puller) removeEnded() error {
	found, err := p.engine.Containers(p.ctx, labelInstance, p.store.Instance())
	errs := []error{err}
	for _, c := range found {
		ours, err := p.leftByEnded(c)
		if ours {
			err = p.engine.Remove(p.ctx, c.ID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leftByEnded reports whether a container is of a run that has ended.
func (p *Puller) leftByEnded(c ContainerState) (bool, error) {
	id := c.Labels[labelJob]
	p.mu.Lock()
	j := p.jobs[id]
	var r Record
	if j != nil {
		r = j.record()
	}
	ended := j == nil || j.outcome != nil
	p.mu.Unlock()
	if j == nil {
		var err error
		if r, err = p.store.Record(id); KindOf(err) == ErrNotFound {
			err = nil // it is not ours, or it is kept no longer
		} else if err != nil {
			return false, err
		}
	}
	return ended && r.Run != nil && r.Run.Owns(c, id, true), nil
}
