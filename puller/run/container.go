package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/retry"
)

// container is the part of a run that deals with the engine's container.
type container struct{ *Run }

// create makes the container, starts it and follows it. An image that was pruned
// meanwhile is pulled once more.
func (r container) create(image puller.Result) {
	s := r.runs
	ctx := r.job.Context()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // there is nothing to remove yet
		r.finish(engines.Exit{}, context.Cause(ctx))
		return
	}
	r.enter(puller.PhaseCreating)
	r.mu.Lock()
	unnamed := r.name == ""
	if unnamed { // an older Towline accepted it
		r.name = containerName()
	}
	again := r.again
	asked := r.spec(image)
	r.mu.Unlock()
	if unnamed {
		r.job.Touch()
		s.o.Sync()
	}
	// An engine creates a container though nobody waits for it any more. Only a
	// container that is known can be removed, so a call that was made is not given up
	// at once.
	creating, cancel := context.WithCancel(s.o.Context)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	id, warnings, err := r.createOnce(creating, asked)
	for _, w := range warnings {
		r.notice(w)
	}
	switch {
	case puller.KindOf(err) == puller.ErrNotFound && !again && r.request.Policy != puller.PolicyNever:
		r.notice("the image is gone since it was proven to be there; it is pulled again")
		r.mu.Lock()
		r.again, r.image = true, nil
		r.mu.Unlock()
		r.seek()
		return
	case err != nil && s.o.Context.Err() != nil:
		return // the next start sees to it
	case err != nil:
		r.clear(engines.Exit{}, err) // it may be there all the same
		if creating.Err() != nil {
			s.sweepLater() // or come yet
		}
		return
	}
	r.found(id)
	r.output.open()
	exit, err := r.start()
	r.exited(started, exit, err)
}

// spec returns what the engine is to create, of a proven image. Its labels take
// the place of the image's own. The lock is held.
func (r container) spec(image puller.Result) engines.Container {
	q := &r.request
	return engines.Container{
		Name: r.name, Image: image.ImageID, Manifest: image.Manifest, Platform: q.Platform,
		Cmd: q.Cmd, Entrypoint: q.Entrypoint, Env: q.Environment(), Workdir: q.Workdir, User: q.User, TTY: q.TTY,
		Network: q.Network, Memory: int64(q.Memory), NanoCPUs: q.CPUs.Nano(), Pids: q.Pids,
		Labels: map[string]string{engines.LabelJob: r.job.ID(), engines.LabelInstance: r.runs.o.Instance()},
	}
}

// createOnce makes the container. It waits for an engine that goes away, and looks
// whether the container is there before it asks again: the answer may have been
// lost. The engine takes the name once only.
func (r container) createOnce(ctx context.Context, asked engines.Container) (id string, warnings []string, err error) {
	engine := r.runs.o.Engine
	wait := retry.Backoff{Limit: r.runs.o.EngineTimeout}
	for first := true; ; first = false {
		if id, warnings, err = engine.Create(ctx, asked); err == nil {
			err = engine.CheckContainer(ctx, id, asked)
		}
		if kind := puller.KindOf(err); kind != puller.ErrEngineUnavailable && kind != puller.ErrConflict || r.job.Context().Err() != nil {
			return id, warnings, err
		}
		if first {
			r.notice(fmt.Sprintf("the engine did not say that it has created the container; waiting for it (%v)", puller.Inner(err)))
		}
		c, missing := r.awaitContainer()
		if missing == nil {
			missing = engine.CheckContainer(ctx, c.ID, asked)
		}
		switch {
		case missing == nil:
			return c.ID, warnings, nil
		case !errors.Is(missing, errContainerGone) && puller.KindOf(missing) != puller.ErrEngineUnavailable:
			return "", nil, missing
		}
		if !wait.Wait(r.job.Context()) {
			return "", nil, err
		}
	}
}

// found notes the ID of the container.
func (r container) found(id string) {
	r.mu.Lock()
	r.id = id
	r.mu.Unlock()
	r.job.Touch()
}

// containerID returns the ID of the container, "" while there is none.
func (r container) containerID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// start starts the container, and returns when it has exited.
func (r container) start() (engines.Exit, error) {
	return r.runs.o.Engine.Run(r.job.Context(), r.containerID(), r.request.TTY, r.started, r.output.printer())
}

// follow follows a container that was started before.
func (r container) follow() (engines.Exit, error) {
	r.started()
	return r.runs.o.Engine.Follow(r.job.Context(), r.containerID(), r.request.TTY, r.output.printer())
}

// started notes that the container was started.
func (r container) started() {
	r.mu.Lock()
	r.running = true
	r.mu.Unlock()
	r.enter(puller.PhaseRunning)
}

// exited ends a run whose container has exited, or of which the engine reports nothing
// any more.
func (r container) exited(seen lastSeen, exit engines.Exit, err error) {
	seen, exit, err = r.waitForExit(seen, exit, err)
	if puller.KindOf(err) == puller.ErrNotFound {
		err = errContainerGone
	}
	if err == nil {
		exit.Interrupted = r.interrupted(seen)
	}
	r.output.close()
	if r.runs.o.Context.Err() != nil {
		return // the container runs on, and the next start takes it up
	}
	if err == nil {
		// On disk before the container is gone: after a crash in between, nothing else
		// would say how it ended.
		r.mu.Lock()
		r.exit = &exit
		r.mu.Unlock()
		r.job.Touch()
		r.runs.o.Sync()
	}
	r.enter(puller.PhaseRemoving)
	r.clear(exit, err)
}

// clear removes the container and finishes the run. A container that can't be removed
// now is removed by a later sweep.
func (r container) clear(exit engines.Exit, err error) {
	removed := r.removeAll()
	r.finish(exit, err)
	if !removed {
		r.runs.sweepLater()
	}
}

// finish ends a run whose container is gone. If something else than its program has
// ended it, that is its error.
func (r container) finish(exit engines.Exit, err error) {
	switch {
	case err == nil && exit.Error != "":
		err = puller.Errorf(puller.ErrInternal, "the engine could not run the container to its end: %s", exit.Error)
	case err == nil && exit.Interrupted:
		err = errInterrupted(exit)
	}
	r.mu.Lock()
	var result puller.Result
	if r.image != nil {
		result = *r.image
	}
	ending, running := r.ending, r.running
	r.mu.Unlock()
	result.Truncated = r.output.truncated()
	switch {
	case ending != nil:
		r.job.Finish(puller.Result{}, ending)
	case err == nil:
		result.ExitCode, result.OOMKilled = &exit.Code, exit.OOMKilled
		r.job.Finish(result, nil)
	case puller.KindOf(err) == puller.ErrEngineUnavailable && (running || r.mayHaveRun()):
		result.Interrupted = true
		r.job.Finish(result, err)
	default:
		r.job.Finish(puller.Result{}, err)
	}
}

// halt has the engine stop the container, once the reason is on disk. Without it, after
// a crash it would look as if the program had ended by itself.
func (r container) halt(id string) {
	s := r.runs
	s.o.Sync()
	ctx, cancel := context.WithTimeout(s.o.Context, stopGrace+stopLimit)
	defer cancel()
	err := s.o.Engine.Stop(ctx, id, stopGrace)
	if s.o.Context.Err() != nil {
		return // the next start sees to it
	}
	if err != nil {
		r.notice(fmt.Sprintf("the container could not be stopped, and is removed as it is: %v", err))
		r.job.Abort()
		return
	}
	select { // the rest of its output
	case <-r.job.Settled():
	case <-ctx.Done():
		r.job.Abort()
	}
}
