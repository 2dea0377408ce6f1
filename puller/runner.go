package puller

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// run is what a job of kind run is beside one. Its fields from again on are
// guarded by Puller.mu.
type run struct {
	request RunRequest
	revived bool  // from its record
	was     Phase // what it was at before that
	placed  bool  // it has a place in Puller.runs, for as long as it is resumed

	again     bool    // the image was pulled again, since it was gone
	image     *Result // proven to be there; a container sees to the rest
	name      string  // of the container; "" until it is to be created, in a run of an older Towline
	container string  // its ID, once there is one
	running   bool    // it was started
	exit      *Exit   // once it has exited
	ending    error   // why it is to end before its program does

	output output
}

// record returns what a restart needs of the run.
func (r *run) record() *Run {
	kept := &Run{Request: r.request, Name: r.name, Container: r.container, Image: r.image, Exit: r.exit}
	if r.ending != nil {
		kept.Ending = NewJobError(r.ending)
	}
	return kept
}

const (
	// stopLimit is how long the engine has to tell that a container it was to
	// stop has exited, after the grace.
	stopLimit = 10 * time.Second
	// removeLimit is how long an engine that is away is waited for to remove a
	// container before the job ends without that. It is removed later.
	removeLimit = time.Minute
)

// Run accepts a job that runs an image's program, and returns it. The job is on
// disk by then. The error is ErrInvalidRequest, naming the field, ErrForbidden, naming
// the rule, ErrConflict, or ErrOverloaded.
func (p *Puller) Run(r RunRequest) (Job, error) {
	asked := r
	r, pull, err := r.withDefaults(p.opts)
	if err != nil {
		return Job{}, err
	}
	j := p.newPull(pull)
	j.view.Kind = JobRun
	r.Credentials, r.Rules = Credentials{}, Rules{}
	j.run = &run{request: r, name: containerName()}
	asked.Image, asked.Platform = r.Image, r.Platform
	j.fingerprint, j.counted = fingerprint(j, asked), j.count(0, nil)
	return p.accept(j)
}

// contain has a run's program run in a container of the image that was proven.
// The admission lock is held.
func (p *Puller) contain(j *job, image Result) {
	last := j.snapshot()
	j.view.Progress, j.view.Timings = last.Progress, last.Timings
	j.transfer, j.run.image = nil, &image
	if j.secrets == nil { // nothing was pulled
		j.secrets = j.request.Credentials.Redactor()
	}
	j.p.ledger.touch(j)
	p.work.Go(func() { p.create(j, image) })
}

// create makes the container. An image that was pruned meanwhile is pulled once
// more.
func (p *Puller) create(j *job, image Result) {
	select {
	case p.runs <- struct{}{}:
		defer func() { <-p.runs }()
	case <-j.context().Done():
	}
	if j.context().Err() != nil { // there is nothing to remove yet
		p.ended(j, Exit{}, context.Cause(j.context()))
		return
	}
	p.to(j, PhaseCreating)
	if j.run.name == "" { // an older Towline accepted it
		p.mu.Lock()
		j.run.name = containerName()
		p.ledger.touch(j)
		p.mu.Unlock()
		p.sync()
	}
	asked := j.run.asks(image, j.id, p.store.Instance())
	// An engine creates a container though nobody waits for it any more. Who
	// knows of it can remove it, so a call that was made is not given up at once.
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(j.context(), func() { time.AfterFunc(stopGrace, cancel) })()
	id, warnings, err := p.createOnce(ctx, j, asked)
	for _, w := range warnings {
		p.tell(j, w)
	}
	if KindOf(err) == ErrNotFound && !j.run.again && j.run.request.Policy != PolicyNever {
		p.tell(j, "the image is gone since it was proven to be there; it is pulled again")
		p.mu.Lock()
		defer p.unlock()
		j.run.again, j.run.image = true, nil
		if err := j.run.ending; err != nil {
			p.finish(j, Result{}, err)
		} else {
			p.seek(j)
		}
		return
	}
	if err != nil && p.ctx.Err() != nil {
		return // the next start sees to it
	}
	if err != nil {
		p.clear(j, Exit{}, err) // it may be there all the same
		if ctx.Err() != nil {
			p.sweepLater() // or come yet
		}
		return
	}
	p.mu.Lock()
	p.found(j, id)
	p.mu.Unlock()
	p.openOutput(j)
	exit, err := p.start(j)
	p.exited(j, started, exit, err)
}

// createOnce makes the container of a run. It waits for an engine that goes away,
// and looks whether the container is there before it asks again: the answer may
// have been lost. The engine takes the name once only.
func (p *Puller) createOnce(ctx context.Context, j *job, asked Container) (id string, warnings []string, err error) {
	began := time.Now()
	for wait := leastEngineWait; ; wait = min(2*wait, mostEngineWait) {
		if id, warnings, err = p.engine.Create(ctx, asked); err == nil {
			err = p.engine.CheckContainer(ctx, id, asked)
		}
		if kind := KindOf(err); kind != ErrEngineUnavailable && kind != ErrConflict || j.context().Err() != nil {
			return id, warnings, err
		}
		if wait == leastEngineWait {
			p.tell(j, fmt.Sprintf("the engine did not say that it has created the container; waiting for it (%v)", Inner(err)))
		}
		c, missing := p.awaitContainer(j)
		if missing == nil {
			missing = p.engine.CheckContainer(ctx, c.ID, asked)
		}
		switch {
		case missing == nil:
			return c.ID, warnings, nil
		case !errors.Is(missing, errContainerGone) && KindOf(missing) != ErrEngineUnavailable:
			return "", nil, missing
		}
		if limit := p.opts.FirstByteTimeout; limit > 0 && time.Since(began) >= limit || sleep(j.context(), wait) != nil {
			return "", nil, err
		}
	}
}

// start starts a run's container, and returns when it has exited.
func (p *Puller) start(j *job) (Exit, error) {
	return p.engine.Run(j.context(), j.run.container, j.run.request.TTY, func() { p.started(j) }, p.printer(j))
}

// again follows a run's container that was started before.
func (p *Puller) again(j *job) (Exit, error) {
	p.started(j)
	return p.engine.Follow(j.context(), j.run.container, j.run.request.TTY, p.printer(j))
}

// started notes that a run's container was started.
func (p *Puller) started(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.run.running = true
	j.enter(StateActive, PhaseRunning, j.view.Attempt)
}

// exited sees to what is left of a run whose container has exited, or that the
// engine does not tell of any more.
func (p *Puller) exited(j *job, seen sight, exit Exit, err error) {
	seen, exit, err = p.outlast(j, seen, exit, err)
	if KindOf(err) == ErrNotFound {
		err = errContainerGone
	}
	if err == nil {
		exit.Interrupted = p.interrupted(j, seen)
	}
	p.closeOutput(j)
	if p.ctx.Err() != nil {
		return // the container runs on, and the next start takes it up
	}
	if err == nil {
		// On disk before the container is gone, or a crash in between would
		// leave nobody who knows.
		p.mu.Lock()
		j.run.exit = &exit
		p.ledger.touch(j)
		p.mu.Unlock()
		p.sync()
	}
	p.to(j, PhaseRemoving)
	p.clear(j, exit, err)
}

// sync waits until what has changed is on disk, or could not be written.
func (p *Puller) sync() {
	e := &entry{done: make(chan error, 1)}
	p.mu.Lock()
	p.ledger.enter(e)
	p.mu.Unlock()
	p.written(e)
}

// clear removes the container of a run and finishes that. A container that
// can't be removed now is as soon as the engine lets it be.
func (p *Puller) clear(j *job, exit Exit, err error) {
	removed := p.removeAll(j)
	p.ended(j, exit, err)
	if !removed {
		p.sweepLater()
	}
}

// ended finishes a run whose container is gone, as what it was to end with if
// something else than its program has ended it.
func (p *Puller) ended(j *job, exit Exit, err error) {
	switch {
	case err == nil && exit.Error != "":
		err = Errorf(ErrInternal, "the engine could not run the container to its end: %s", exit.Error)
	case err == nil && exit.Interrupted:
		err = errInterrupted(exit)
	}
	truncated := j.run.output.truncated()
	p.mu.Lock()
	defer p.unlock()
	var result Result
	if j.run.image != nil {
		result = *j.run.image
	}
	result.Truncated = truncated
	switch {
	case j.run.ending != nil:
		p.finish(j, Result{}, j.run.ending)
	case err == nil:
		result.ExitCode, result.OOMKilled = &exit.Code, exit.OOMKilled
		p.finish(j, result, nil)
	case KindOf(err) == ErrEngineUnavailable && (j.run.running || j.run.mayHaveRun()):
		result.Interrupted = true
		p.finish(j, result, err)
	default:
		p.finish(j, Result{}, err)
	}
}

// to moves a run to a phase.
func (p *Puller) to(j *job, phase Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.enter(StateActive, phase, j.view.Attempt)
}

func (p *Puller) tell(j *job, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.notice(message, 0)
}

// endRun has a run's container stopped, and the run end with err. Readers are told
// what it prints meanwhile. The admission lock is held.
func (p *Puller) endRun(j *job, err error) {
	r := j.run
	if r.ending != nil || j.outcome != nil {
		return
	}
	r.ending = err
	p.ledger.touch(j)
	if !r.running {
		j.abort()
		return
	}
	id := r.container
	p.work.Go(func() { p.halt(j, id) })
}

// halt has the engine stop a run's container, when it is on disk that it is to:
// after a crash it would else look as if its program had ended by itself.
func (p *Puller) halt(j *job, container string) {
	p.sync()
	ctx, cancel := context.WithTimeout(p.ctx, stopGrace+stopLimit)
	defer cancel()
	err := p.engine.Stop(ctx, container, stopGrace)
	if p.ctx.Err() != nil {
		return // the next start sees to it
	}
	if err != nil {
		p.tell(j, fmt.Sprintf("the container could not be stopped, and is removed as it is: %v", err))
		p.abort(j)
		return
	}
	select { // the rest of its output
	case <-j.done:
	case <-ctx.Done():
		p.abort(j)
	}
}

func (p *Puller) abort(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.abort()
}
