package run

import (
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/retry"
	"github.com/towline/towline/puller/transfer"
)

// streamTries is how often in a row a container's stream may be garbled, or end before
// the container, until that is the run's error.
const streamTries = 3

// lastSeen is what is known of a run's container before its exit.
type lastSeen int

const (
	started  lastSeen = iota // the engine has started it, and was not seen to go away since
	followed                 // it was found again, and ran
	lost                     // the engine went away, and it did not run when that was back
)

// waitForExit waits for an engine that went away under a run, and goes on with the
// container.
func (r container) waitForExit(seen lastSeen, exit engines.Exit, err error) (lastSeen, engines.Exit, error) {
	ctx := r.job.Context()
	wait := retry.Backoff{Limit: r.runs.o.EngineTimeout}
	for tries := 1; ctx.Err() == nil; tries++ {
		kind := puller.KindOf(err)
		if kind != puller.ErrEngineUnavailable && (kind != puller.ErrTruncated || tries > streamTries) {
			break
		}
		seen = lost
		if tries > 1 && !wait.Wait(ctx) {
			break
		}
		r.notice(fmt.Sprintf("the engine went away while the container ran; waiting for it (%v)", puller.Inner(err)))
		var c engines.ContainerState
		if c, err = r.awaitContainer(); err != nil {
			break // it has been waited for
		}
		again := time.Now()
		switch {
		case c.Started:
			if c.Running {
				seen = followed
			}
			exit, err = r.follow()
		case r.hasRun():
			// To start it again would be to run it twice.
			err = puller.Errorf(puller.ErrEngineUnavailable, "the engine says that the container was never started, though it had said that it was")
			return seen, exit, err
		default: // it was about to be
			exit, err = r.start()
		}
		if time.Since(again) > removeLimit { // the stream was good for a while
			wait.Reset()
			tries = 0
		}
	}
	return seen, exit, err
}

// hasRun reports whether the engine has said that the container was started.
func (r container) hasRun() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// interrupted reports whether the engine may have ended the program: it was restarted
// under it.
func (r container) interrupted(seen lastSeen) bool {
	r.mu.Lock()
	ending, id := r.ending, r.id
	r.mu.Unlock()
	if ending != nil {
		return false // it is Towline that ended it
	}
	ctx := r.job.Context()
	away := func(error) { seen = lost } // as one is that is being stopped
	events, err := retry.Engine(ctx, r.runs.o.EngineTimeout, away, func() (engines.ContainerEvents, error) {
		return r.runs.o.Engine.ContainerEvents(ctx, id)
	})
	switch {
	case err != nil:
		return seen == lost
	case events.Start && events.Exit, seen == followed && events.Exit:
		return false
	}
	return seen == lost || events.Complete
}

func errInterrupted(exit engines.Exit) error {
	return puller.Errorf(puller.ErrEngineUnavailable, "the engine was restarted while the program ran, so it may have been ended by that; its container exited with %d", exit.Code)
}

// resume goes on with a run after a restart: with its container, if it has one that was
// started, else from the beginning.
func (r container) resume() {
	s := r.runs
	defer func() {
		if r.placed {
			<-s.slots
		}
	}()
	r.mu.Lock()
	exit := r.exit
	r.mu.Unlock()
	if exit != nil { // only the end of it was left to do
		r.output.close()
		r.clear(*exit, nil)
		return
	}
	c, err := r.awaitContainer()
	switch {
	case err == nil && c.Started:
		r.takeUp(c)
	case s.o.Context.Err() != nil:
		r.output.close()
	case err != nil && !errors.Is(err, errContainerGone), r.mayHaveRun():
		// To run it again would be to do it twice.
		if err == nil {
			err = errContainerGone // what is there is another one, left idle
		}
		r.output.close()
		r.clear(engines.Exit{}, err)
	default:
		r.removeAll() // it may have been created
		r.output.close()
		r.output.reset()
		r.mu.Lock()
		r.image, r.id = nil, ""
		r.mu.Unlock()
		r.seek()
	}
}

// takeUp follows a container that was started before the restart.
func (r container) takeUp(c engines.ContainerState) {
	if !r.placed {
		r.takeSlot()
	}
	if !r.HasImage() { // the crash came before that was saved
		r.setImage(c)
	}
	r.output.open()
	r.notice("towline has found the container again, and follows it")
	r.mu.Lock()
	r.running = true // a Leave from now on stops it
	ending := r.ending
	r.mu.Unlock()
	if ending != nil && r.job.Context().Err() == nil { // else it was aborted just now, and needs no more
		r.runs.o.Go(func() { r.halt(c.ID) })
	}
	seen := started
	if c.Running {
		seen = followed
	}
	exit, err := r.follow()
	r.exited(seen, exit, err)
}

// setImage notes the image of a container that was made before a crash.
func (r container) setImage(c engines.ContainerState) {
	r.mu.Lock()
	key := transfer.Key{Image: r.wanted.Image, Platform: r.wanted.Platform}
	r.mu.Unlock()
	// Another image may have its name since.
	result := puller.Result{ImageID: c.ImageID, Source: puller.SourcePresent, Digest: names.ParseName(key.Image).Digest}
	found, err := r.runs.o.Transfers.Inspect(r.job.Context(), key)
	if err == nil && r.runs.o.Prover.Mismatch(found, key.Wanted()) == nil && (c.ImageID == "" || c.ImageID == found.ID) {
		result = r.runs.o.Prover.Result(found, key.Wanted())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.image = &result
}
