package puller

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// survey looks at the images of a plan. Its methods may be called from
// anywhere.
type survey struct {
	p      *Puller
	engine EngineInfo

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
	PlannedImage
	manifest *Manifest
}

// mayFetch reports whether something may be fetched that is not known of: not
// where the image is there, or what is in the way stays there.
func (l look) mayFetch() bool {
	return l.Status != StatusPresent && (l.Error == nil || l.Error.Retryable)
}

// look asks the engine what it has, and if that is not enough, the registry. The
// error is the engine's, as far as it concerns all images; asking bounds the
// time for the registry.
func (s *survey) look(ctx, asking context.Context, r PullRequest) (look, error) {
	l := look{PlannedImage: PlannedImage{Image: r.Image, Platform: r.Platform, Policy: r.Policy, Status: StatusMissing}}
	want := wanted{r.Image, r.Platform}
	found, err := s.p.engine.Inspect(ctx, EngineRef(r.Image), r.Platform)
	var why error
	if err == nil {
		why = s.p.absence(found, want)
	}
	switch kind := KindOf(err); {
	case kind == ErrNotFound:
	case kind == ErrEngineUnavailable, kind == ErrTruncated, ctx.Err() != nil:
		return l, err
	case err != nil:
		l.Status, l.Error = StatusUnknown, NewJobError(err)
		return l, nil
	case why == nil:
		l.Digest = s.p.resultOf(found, want).Digest
		l.Status = StatusPresent
		if !r.Policy.AsksRegistry() {
			return l, nil
		}
		digest, err := s.head(asking, r)
		switch {
		case err != nil:
			l.Status, l.Error = StatusUnknown, s.errorOf(err)
			return l, nil
		case s.p.has(found, want, digest):
			l.Digest = digest
			return l, nil
		}
		l.Status, l.Digest = StatusStale, digest
	}
	if r.Policy == PolicyNever || ParseName(r.Image).ID != "" {
		l.Error = NewJobError(errNotPresent(r, why))
		return l, nil
	}
	m, err := s.manifest(asking, r)
	if err != nil {
		l.Error = s.errorOf(err)
		return l, nil
	}
	l.Digest = m.Digest
	if !MatchPlatform(m.Platform, r.Platform) {
		l.Error = NewJobError(Errorf(ErrPlatformMismatch, "%s: the registry has it for %s, not for %s", r.Image, m.Platform, r.Platform))
		return l, nil
	}
	l.manifest = &m
	return l, nil
}

// errNoRegistry is why sizes are not known where no registry can be asked. It
// keeps no image from being pulled.
var errNoRegistry = errors.New("there is no registry to ask")

func (s *survey) errorOf(err error) *JobError {
	if errors.Is(err, errNoRegistry) {
		return nil
	}
	return NewJobError(err)
}

func (s *survey) head(ctx context.Context, r PullRequest) (digest string, err error) {
	if s.p.opts.Registry == nil {
		return "", errNoRegistry
	}
	err = s.ask(r.Image, func() error {
		digest, err = s.p.opts.Registry.Head(ctx, r.Image, r.Credentials)
		return err
	})
	return digest, err
}

func (s *survey) manifest(ctx context.Context, r PullRequest) (m Manifest, err error) {
	err = s.ask(r.Image, func() error {
		m, err = s.p.manifest(ctx, r, s.engine.Platform, s.engine.OSVersion, false)
		return err
	})
	return m, err
}

// ask makes a call of an image's registry, unless that has shown often enough
// that it does not answer: a call may take long to fail.
func (s *survey) ask(image string, call func() error) error {
	registry := RegistryOf(image)
	s.mu.Lock()
	before := s.failed[registry]
	s.mu.Unlock()
	if before.n >= patience {
		return &Error{Op: "ask the registry for", Ref: image, Kind: ErrRegistryUnavailable, Err: fmt.Errorf("it was not asked, since it did not answer for other images: %w", Inner(before.last))}
	}
	err := call()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case KindOf(err) == ErrRegistryUnavailable:
		s.failed[registry] = failures{s.failed[registry].n + 1, err}
	case !errors.Is(err, errNoRegistry):
		delete(s.failed, registry)
	}
	return err
}

// manifest asks the registry what an image is made of, for the engine's own
// platform where the request names none, and for a version of its operating system. With free it asks only for what costs
// nothing (ManifestQuery.Free).
func (p *Puller) manifest(ctx context.Context, r PullRequest, own, version string, free bool) (Manifest, error) {
	if p.opts.Registry == nil {
		return Manifest{}, errNoRegistry
	}
	platform := r.Platform
	if platform == "" {
		platform = own
	}
	return p.opts.Registry.Manifest(ctx, ManifestQuery{Image: r.Image, Platform: platform, OSVersion: version, Credentials: r.Credentials, Free: free})
}
