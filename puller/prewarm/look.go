package prewarm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/transfer"
)

// survey looks at the images of a plan. Its methods may be called from
// anywhere.
type survey struct {
	env    *Env
	engine puller.EngineInfo

	mu     sync.Mutex
	failed map[string]failures // by registry
}

// failures are how often a registry did not answer, and how it did not.
type failures struct {
	n    int
	last error
}

// look is an image that was looked at. It has a manifest if it is to be pulled
// and the registry told of it.
type look struct {
	puller.PlannedImage
	manifest *puller.Manifest
	unasked  error // why Towline may not ask the registry itself, nil if it may
}

// mayFetch reports whether something may be fetched that is not known of: not
// where the image is there, or what is in the way stays there.
func (l look) mayFetch() bool {
	return l.Status != puller.StatusPresent && (l.Error == nil || l.Error.Retryable)
}

// look asks the engine what it has, and if that is not enough, the registry. The
// error is the engine's, as far as it concerns all images; asking bounds the
// time for the registry.
func (s *survey) look(ctx, asking context.Context, r puller.PullRequest) (look, error) {
	l := look{PlannedImage: puller.PlannedImage{Image: r.Image, Platform: r.Platform, Policy: r.Policy, Status: puller.StatusMissing}}
	want := proof.Wanted{Image: r.Image, Platform: r.Platform}
	found, err := s.env.Engine.Inspect(ctx, names.EngineRef(r.Image), r.Platform)
	var mismatch error
	if err == nil {
		mismatch = s.env.Prover.Mismatch(found, want)
	}
	switch kind := puller.KindOf(err); {
	case kind == puller.ErrNotFound:
	case kind == puller.ErrEngineUnavailable, kind == puller.ErrTruncated, ctx.Err() != nil:
		return l, err
	case err != nil:
		l.Status, l.Error = puller.StatusUnknown, puller.NewJobError(err)
		return l, nil
	case mismatch == nil:
		l.Digest = s.env.Prover.Result(found, want).Digest
		l.Status = puller.StatusPresent
		if !r.Policy.AsksRegistry() {
			return l, nil
		}
		digest, err := s.head(asking, r)
		switch {
		case err != nil && isUnasked(err) && !r.Strict: // a job keeps what is there
			l.Status, l.unasked = puller.StatusUnknown, err
			return l, nil
		case err != nil:
			l.Status, l.Error = puller.StatusUnknown, s.errorOf(err)
			return l, nil
		case s.env.Prover.Has(found, want, digest):
			l.Digest = digest
			return l, nil
		}
		l.Status, l.Digest = puller.StatusStale, digest
	}
	if r.Policy == puller.PolicyNever || names.ParseName(r.Image).ID != "" {
		l.Error = puller.NewJobError(transfer.NotPresent(r.Image, r.Policy, mismatch))
		return l, nil
	}
	m, err := s.manifest(asking, r)
	if isUnasked(err) { // the engine may pull it all the same
		l.unasked = err
		return l, nil
	}
	if err != nil {
		l.Error = s.errorOf(err)
		return l, nil
	}
	l.Digest = m.Digest
	if !names.MatchPlatform(m.Platform, r.Platform) {
		l.Error = puller.NewJobError(puller.Errorf(puller.ErrPlatformMismatch, "%s: the registry has it for %s, not for %s", r.Image, m.Platform, r.Platform))
		return l, nil
	}
	l.manifest = &m
	return l, nil
}

// isUnasked reports whether a registry was not asked because Towline itself may not. The
// rules on images have been applied before, so nothing else is forbidden here.
func isUnasked(err error) bool { return puller.KindOf(err) == puller.ErrForbidden }

func (s *survey) errorOf(err error) *puller.JobError {
	if errors.Is(err, proof.ErrNoRegistry) {
		return nil
	}
	return puller.NewJobError(err)
}

func (s *survey) head(ctx context.Context, r puller.PullRequest) (digest string, err error) {
	if s.env.Registry == nil {
		return "", proof.ErrNoRegistry
	}
	err = s.ask(r.Image, func() error {
		digest, err = s.env.Registry.Head(ctx, r.Image, r.Credentials)
		return err
	})
	return digest, err
}

func (s *survey) manifest(ctx context.Context, r puller.PullRequest) (m puller.Manifest, err error) {
	err = s.ask(r.Image, func() error {
		m, err = s.env.Prover.Manifest(ctx, r, s.engine.Platform, s.engine.OSVersion, false)
		return err
	})
	return m, err
}

// ask makes a call of an image's registry, unless that has shown often enough
// that it does not answer: a call may take long to fail.
func (s *survey) ask(image string, call func() error) error {
	registry := names.RegistryOf(image)
	s.mu.Lock()
	before := s.failed[registry]
	s.mu.Unlock()
	if before.n >= maxFailures {
		return &puller.Error{Op: "ask the registry for", Ref: image, Kind: puller.ErrRegistryUnavailable, Err: fmt.Errorf("it was not asked, since it did not answer for other images: %w", puller.Inner(before.last))}
	}
	err := call()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case puller.KindOf(err) == puller.ErrRegistryUnavailable:
		s.failed[registry] = failures{s.failed[registry].n + 1, err}
	case !errors.Is(err, proof.ErrNoRegistry):
		delete(s.failed, registry)
	}
	return err
}
