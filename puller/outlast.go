package puller

import (
	"fmt"
	"time"
)

// streamTries is how often in a row a container's stream may be garbled, or end
// before the container, until that is the run's error.
const streamTries = 3

// sight is what is known of a run's container before its exit.
type sight int

const (
	started  sight = iota // the engine has started it, and was not seen to go away since
	followed              // it was found again, and ran
	lost                  // the engine went away, and it did not run when that was back
)

// outlast waits for an engine that went away under a run, and goes on with the
// container.
func (p *Puller) outlast(j *job, seen sight, exit Exit, err error) (sight, Exit, error) {
	began, wait := time.Now(), leastEngineWait
	for tries := 1; j.context().Err() == nil; tries++ {
		kind := KindOf(err)
		if kind != ErrEngineUnavailable && (kind != ErrTruncated || tries > streamTries) {
			break
		}
		seen = lost
		if tries > 1 {
			if limit := p.opts.FirstByteTimeout; limit > 0 && time.Since(began) >= limit || sleep(j.context(), wait) != nil {
				break
			}
			wait = min(2*wait, mostEngineWait)
		}
		p.tell(j, fmt.Sprintf("the engine went away while the container ran; waiting for it (%v)", Inner(err)))
		var c ContainerState
		if c, err = p.awaitContainer(j); err != nil {
			break // it has been waited for
		}
		again := time.Now()
		switch {
		case c.Started:
			if c.Running {
				seen = followed
			}
			exit, err = p.again(j)
		case p.hasRun(j):
			// To start it again would be to run it twice.
			err = Errorf(ErrEngineUnavailable, "the engine says that the container was never started, though it had said that it was")
			return seen, exit, err
		default: // it was about to be
			exit, err = p.start(j)
		}
		if time.Since(again) > removeLimit { // it was well for a while
			began, wait, tries = time.Now(), leastEngineWait, 0
		}
	}
	return seen, exit, err
}

// hasRun reports whether the engine has said that a run's container was started.
func (p *Puller) hasRun(j *job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return j.run.running
}

// interrupted reports whether the engine may have ended a run's program: it was
// restarted under it.
func (p *Puller) interrupted(j *job, seen sight) bool {
	p.mu.Lock()
	ending, id := j.run.ending, j.run.container
	p.mu.Unlock()
	if ending != nil {
		return false // it is Towline that ended it
	}
	var w ContainerEvents
	var err error
	for began, wait := time.Now(), leastEngineWait; ; wait = min(2*wait, mostEngineWait) {
		if w, err = p.engine.ContainerEvents(j.context(), id); KindOf(err) != ErrEngineUnavailable {
			break
		}
		seen = lost // as one is that is being stopped
		if limit := p.opts.FirstByteTimeout; limit > 0 && time.Since(began) >= limit || sleep(j.context(), wait) != nil {
			break
		}
	}
	switch {
	case err != nil:
		return seen == lost
	case w.Start && w.Exit, seen == followed && w.Exit:
		return false
	}
	return seen == lost || w.Complete
}

func errInterrupted(exit Exit) error {
	return Errorf(ErrEngineUnavailable, "the engine was restarted while the program ran, so it may have been ended by that; its container exited with %d", exit.Code)
}
