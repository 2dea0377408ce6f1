package puller

import (
	"context"
	"slices"

	"github.com/distribution/reference"
	"github.com/oklog/ulid/v2"
)

func errNoJob(id string) error {
	return Errorf(ErrNotFound, "job %q is not known; it may have ended long ago", Clip(id))
}

// live returns a job that is in memory, or nil.
func (p *Puller) live(id string) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs[id]
}

// kept returns the record of a job that is not in memory, or ErrNotFound.
func (p *Puller) kept(id string) (Record, error) {
	if _, err := ulid.ParseStrict(id); err != nil {
		return Record{}, errNoJob(id)
	}
	r, err := p.store.Record(id)
	if KindOf(err) == ErrNotFound || err == nil && !r.Job.State.Ended() {
		return Record{}, errNoJob(id) // or it is about to be accepted
	}
	r.Job = p.outputs.kept(r.Job)
	return r, err
}

// Job returns a job as it stands, or ErrNotFound.
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
// job as it stands and ctx's error, and if the Puller closes, ErrOverloaded; the
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
	return Errorf(ErrOverloaded, "towline is shutting down; job %s goes on when it is back", id)
}

// Image returns the image that the engine has under a name, a digest or an ID,
// without asking any registry, as far as the rules, own being the caller's, let it
// be pulled: of its names those that they forbid are left out. platform is
// os/arch[/variant], "" for any. The error is ErrInvalidRequest for what is none of
// them, ErrForbidden, and ErrNotFound where the engine has no such image, or has it for
// another platform.
func (p *Puller) Image(ctx context.Context, name, platform string, own Rules) (Image, error) {
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return Image{}, Errorf(ErrInvalidRequest, "image: %q is not an image reference: %w", Clip(name), err)
	}
	image := ref.String() // of an ID, sha256:…
	named, ok := ref.(reference.Named)
	if ok {
		if err := CheckRegistry(named); err != nil {
			return Image{}, err
		}
		named = reference.TagNameOnly(named)
		if err := p.checkName(named, own); err != nil {
			return Image{}, err
		}
		image = EngineRef(named.String())
	}
	found, err := p.engine.Inspect(ctx, image, platform)
	if err != nil {
		return Image{}, err
	}
	if err := p.absence(found, wanted{image: image, platform: platform}); err != nil {
		return Image{}, Errorf(ErrNotFound, "%s: the engine has no such image: %w", Clip(name), Inner(err))
	}
	forbidden := func(name string) bool {
		other, err := reference.ParseNormalizedNamed(name)
		return err != nil || (!ok || other.Name() != named.Name()) && p.checkName(other, own) != nil
	}
	if p.opts.Rules.Pull != nil || own.Pull != nil {
		found.RepoTags = slices.DeleteFunc(found.RepoTags, forbidden)
		found.RepoDigests = slices.DeleteFunc(found.RepoDigests, forbidden)
		if !ok && len(found.RepoTags)+len(found.RepoDigests) == 0 {
			return Image{}, Errorf(ErrForbidden, "image: the rules forbid all names that %s has", Clip(name))
		}
	}
	return found, nil
}

// checkName returns why an image of a name may not be looked at.
func (p *Puller) checkName(named reference.Named, own Rules) error {
	if err := p.opts.Rules.Pull.checkName(named); err != nil {
		return err
	}
	return own.Pull.checkName(named)
}
