package puller

import (
	"errors"

	"github.com/towline/towline/stream"
)

// resume goes on with a run after a restart: with its container, if it has one
// that was started, else from the beginning.
func (p *Puller) resume(j *job) {
	r := j.run
	defer func() {
		if r.placed {
			<-p.runs
		}
	}()
	if r.exit != nil { // only the end of it was left to do
		p.closeOutput(j)
		p.clear(j, *r.exit, nil)
		return
	}
	c, err := p.awaitContainer(j)
	switch {
	case err == nil && c.Started:
		if !r.placed {
			p.place(r)
		}
		if r.image == nil { // the crash came before that was written
			p.proven(j, c)
		}
		p.openOutput(j)
		p.tell(j, "towline has found the container again, and follows it")
		p.mu.Lock()
		if r.ending != nil && j.ctx.Err() == nil { // else it was aborted just now, and needs no more
			p.work.Go(func() { p.halt(j, c.ID) })
		}
		p.mu.Unlock()
		seen := started
		if c.Running {
			seen = followed
		}
		exit, err := p.again(j)
		p.exited(j, seen, exit, err)
	case p.ctx.Err() != nil:
		p.closeOutput(j)
	case err != nil && !errors.Is(err, errContainerGone), r.mayHaveRun():
		// To run it again would be to do it twice.
		if err == nil {
			err = errContainerGone // what is there is another one, left idle
		}
		p.closeOutput(j)
		p.clear(j, Exit{}, err)
	default:
		p.removeAll(j) // it may have been created
		p.closeOutput(j)
		p.mu.Lock()
		defer p.unlock()
		r.image, r.container, r.output.tape = nil, "", nil
		switch {
		case r.ending != nil:
			p.finish(j, Result{}, r.ending)
		case j.outcome == nil:
			p.seek(j)
		}
	}
}

// place counts a run that was revived among those that run at a time, unless
// there are fewer places now.
func (p *Puller) place(r *run) {
	select {
	case p.runs <- struct{}{}:
		r.placed = true
	default:
	}
}

// mayHaveRun reports whether the container of a run that was revived was
// started before, as far as that is known.
func (r *run) mayHaveRun() bool {
	return r.was == PhaseRunning || r.was == PhaseRemoving || r.output.mark != stream.Mark{}
}

// proven notes the image of a container that was made before a crash.
func (p *Puller) proven(j *job, c ContainerState) {
	// Its name may have come to stand for another image since.
	result := Result{ImageID: c.ImageID, Source: SourcePresent, Digest: ParseName(j.key.image).Digest}
	found, err := p.inspect(j.context(), j)
	if err == nil && p.absence(found, j.key.wanted()) == nil && (c.ImageID == "" || c.ImageID == found.ID) {
		result = p.resultOf(found, j.key.wanted())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	j.run.image = &result
}
