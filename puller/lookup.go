package puller

import (
	"context"

	"github.com/distribution/reference"
	"github.com/oklog/ulid/v2"
)

func errNoJob(id string) error {
	return Errorf(NotFound, "job %q is not known; it may have ended long ago", clip(id))
}

// live returns a job that is in memory, or nil.
func (p *Puller) live(id string) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs[id]
}

// kept returns the record of a job that is not in memory, or NotFound.
func (p *Puller) kept(id string) (Record, error) {
	if _, err := ulid.ParseStrict(id); err != nil {
		return Record{}, errNoJob(id)
	}
	r, err := p.store.Record(id)
	if KindOf(err) == NotFound || err == nil && !r.Job.State.Ended() {
		return Record{}, errNoJob(id) // or it is about to be accepted
	}
	return r, err
}

// Job returns a job as it stands, or NotFound.
func (p *Puller) Job(id string) (Job, error) {
	p.mu.Lock()
	if j := p.jobs[id]; j != nil {
		defer p.mu.Unlock()
		return j.snapshot(), nil
	}
	p.mu.Unlock()
	r, err := p.kept(id)
	return r.Job, err
}

// Wait returns the job when it has ended. If ctx ends first, Wait returns the
// job as it stands and ctx's error, and if the Puller closes, Overloaded; the
// job goes on.
func (p *Puller) Wait(ctx context.Context, id string) (Job, error) {
	j := p.live(id)
	if j == nil {
		return p.Job(id)
	}
	var err error
	select {
	case <-j.done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.ledger.done:
		err = errPaused(id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.view.State.Ended() {
		err = nil
	}
	return j.snapshot(), err
}

func errPaused(id string) error {
	return Errorf(Overloaded, "towline is shutting down; job %s goes on when it is back", id)
}

// Image returns the image that the engine has under a name, a digest or an ID,
// without asking any registry. The error is InvalidRequest for what is none of
// them, and NotFound where the engine has no such image.
func (p *Puller) Image(ctx context.Context, name string) (Image, error) {
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return Image{}, Errorf(InvalidRequest, "image: %q is not an image reference: %w", clip(name), err)
	}
	image := ref.String() // of an ID, sha256:…
	if named, ok := ref.(reference.Named); ok {
		image = inspectRef(reference.TagNameOnly(named).String())
	}
	return p.engine.Inspect(ctx, image, "")
}
