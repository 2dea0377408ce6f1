package puller

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/towline/towline/stream"
)

// Submit accepts a job and returns it, queued or further. The error is
// InvalidRequest, naming the field, or Overloaded.
func (p *Puller) Submit(r PullRequest) (Job, error) {
	r, ref, err := r.withDefaults(p.opts)
	if err != nil {
		return Job{}, err
	}
	now := time.Now().UTC()
	j := &job{
		request: r,
		key:     transferKey{ref.String(), r.Platform, r.Credentials.identity(p.key)},
		topic:   stream.NewTopic(&p.seq),
		done:    make(chan struct{}),
		view: Job{
			Kind: "pull", State: Queued, Image: ref.String(), Platform: r.Platform,
			Policy: r.Policy, Priority: r.Priority, CreatedAt: now,
		},
	}
	p.mu.Lock()
	defer p.unlock()
	switch {
	case p.closing:
		return Job{}, errClosing
	case r.IdempotencyKey != "" && p.keys[r.IdempotencyKey] != nil:
		known := p.keys[r.IdempotencyKey]
		if known.request.fingerprint(known.key.identity) != r.fingerprint(j.key.identity) {
			return Job{}, Errorf(Conflict, "Idempotency-Key: %q came with another request before", clip(r.IdempotencyKey))
		}
		return known.snapshot(), nil
	case p.unended >= maxUnended:
		return Job{}, Errorf(Overloaded, "%d jobs are queued or active, which is the limit; ask again later", p.unended)
	}
	j.view.ID = p.newID()
	limit := Errorf(Timeout, "%s: not done within %s", j.view.Image, time.Duration(r.Timeout))
	ctx, cancel := context.WithTimeoutCause(p.ctx, time.Duration(r.Timeout), limit)
	stop := context.AfterFunc(ctx, func() { p.leave(j, context.Cause(ctx)) })
	j.ctx, j.end = ctx, func() { stop(); cancel() }
	p.jobs[j.view.ID] = j
	if r.IdempotencyKey != "" {
		p.keys[r.IdempotencyKey] = j
	}
	p.order = append(p.order, j)
	p.unended++
	p.meter.accepted()
	j.topic.Publish(func(seq uint64) stream.Frame { return stateFrame(seq, &j.view) })
	if r.Policy.asks() {
		p.attach(j)
	} else {
		p.work.Go(func() { p.check(j) })
	}
	return j.snapshot(), nil
}

// newID returns a ULID above all that were given before, also when the clock is
// set back: jobs are ordered by it. The admission lock is held.
func (p *Puller) newID() string {
	p.lastMS = max(p.lastMS, ulid.Now())
	return ulid.MustNew(p.lastMS, p.entropy).String()
}

// check asks the engine whether the job's image is there: then no registry is
// contacted.
func (p *Puller) check(j *job) {
	image, err := p.inspect(j)
	p.mu.Lock()
	defer p.unlock()
	switch {
	case j.view.State.Ended():
	case err == nil && image.suits(j.view.Image, j.request.Platform):
		p.finish(j, resultOf(image, j.view.Image), nil)
	case KindOf(err) == EngineUnavailable && *j.request.Retries > 0:
		p.attach(j) // the transfer waits for it
	case err != nil && KindOf(err) != NotFound:
		p.finish(j, Result{}, err)
	case j.request.Policy == Never:
		p.finish(j, Result{}, errNotPresent(j.view.Image))
	default:
		p.attach(j)
	}
}

func errNotPresent(image string) error {
	return Errorf(NotFound, "%s: not present on the engine, and the policy is never to pull it", image)
}

func (p *Puller) inspect(j *job) (Image, error) {
	select {
	case p.checks <- struct{}{}:
		defer func() { <-p.checks }()
	case <-j.ctx.Done():
		return Image{}, context.Cause(j.ctx)
	}
	return p.engine.Inspect(j.ctx, inspectRef(j.view.Image), j.request.Platform)
}
