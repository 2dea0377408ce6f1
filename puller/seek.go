package puller

import (
	"context"
	"time"
)

// begin has jobs do what they are for, except when the Puller closes: then they
// do at the next start. The admission lock is held.
func (p *Puller) begin(jobs []*job) {
	for _, j := range jobs {
		switch {
		case j.outcome != nil: // it needed no more than a glance
		case p.closing:
			p.pause(j)
		case j.parent != nil: // its parent sees to it
		case j.batch != nil:
			p.work.Go(func() { p.warm(j) })
		case j.run != nil && j.run.revived:
			j.arm()
			if j.run.mayHaveRun() { // before others take its place
				p.place(j.run)
			}
			p.work.Go(func() { p.resume(j) })
		default:
			j.arm()
			p.seek(j)
		}
	}
}

// seek has a job's image looked for, and pulled. The admission lock is held.
func (p *Puller) seek(j *job) {
	switch {
	case j.orphan:
		p.work.Go(func() { p.adopt(j) })
	case j.wants || j.request.Policy.AsksRegistry() || p.waits(j) || p.pulling(j):
		p.attach(j)
	default:
		p.work.Go(func() { p.check(j) })
	}
}

// pulling reports whether what a job that wants an image if it is missing would
// find out is known: it is missing, and is being pulled. The admission lock is
// held.
func (p *Puller) pulling(j *job) bool {
	t := p.transfers[j.key]
	return j.request.Policy == PolicyMissing && t != nil && t.absent
}

// check asks the engine whether the job's image is there, and has it pulled if
// it is not.
func (p *Puller) check(j *job) {
	if !p.wants(j) {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	if j.outcome == nil { // it may have been canceled since
		p.attach(j)
	}
}

// wants reports whether a job wants a pull. If it does not, its image is there
// and the job ends without any registry being contacted.
func (p *Puller) wants(j *job) bool {
	if p.waits(j) {
		return true
	}
	image, err := p.inspect(j.context(), j)
	p.mu.Lock()
	defer p.unlock()
	return p.judge(j, image, err)
}

// judge is wants for what the engine has said. The admission lock is held, and
// to be given back by unlock.
func (p *Puller) judge(j *job, image Image, err error) bool {
	var why error
	if err == nil {
		why = p.absence(image, j.key.wanted())
	}
	switch present := err == nil && why == nil; {
	case j.outcome != nil:
	case present && !p.access.has(j.key, image):
		return true // the transfer asks the registry whether it may be given
	case present:
		p.finish(j, p.resultOf(image, j.key.wanted()), nil)
	case KindOf(err) == ErrEngineUnavailable && *j.request.Retries > 0:
		return true // the transfer waits for it
	case err != nil && KindOf(err) != ErrNotFound:
		p.finish(j, Result{}, err)
	case j.request.Policy == PolicyNever || ParseName(j.view.Image).ID != "":
		p.finish(j, Result{}, errNotPresent(j.request, why))
	default:
		return true
	}
	return false
}

// errNotPresent is why a job fails that can't or must not be pulled. why, if not nil,
// says what speaks against the image that the engine has.
func errNotPresent(r PullRequest, why error) error {
	kind, words := ErrNotFound, "not present on the engine, and the policy is never to pull it"
	if ParseName(r.Image).ID != "" {
		words = "it is an image ID, and the engine has no such image; no registry knows IDs, so name a reference to have it pulled"
		if r.Policy != PolicyNever {
			kind = ErrInvalidRequest
		}
	}
	switch {
	case why == nil:
		return Errorf(kind, "%s: %s", r.Image, words)
	case ParseName(r.Image).ID != "" && KindOf(why) == ErrPlatformMismatch:
		return Errorf(ErrPlatformMismatch, "%s: %w", r.Image, Inner(why))
	}
	return Errorf(kind, "%s: %s: %w", r.Image, words, Inner(why))
}

func (p *Puller) inspect(ctx context.Context, j *job) (Image, error) {
	select {
	case p.checks <- struct{}{}:
		defer func() { <-p.checks }()
	case <-ctx.Done():
		return Image{}, context.Cause(ctx)
	}
	image, err := p.engine.Inspect(ctx, EngineRef(j.key.image), j.key.platform)
	if KindOf(err) == ErrEngineUnavailable {
		p.silent.Store(time.Now().UnixNano())
	} else {
		p.silent.Store(0)
	}
	return image, err
}

// waits reports whether a job does not ask the engine, which is away: its
// transfer asks when the engine answers.
func (p *Puller) waits(j *job) bool { return p.away() && *j.request.Retries > 0 }

// away reports whether the engine has just not answered. Then not every job
// that comes asks it anew.
func (p *Puller) away() bool { return time.Now().UnixNano()-p.silent.Load() < int64(leastEngineWait) }
