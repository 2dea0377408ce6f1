package puller

import (
	"errors"
	"fmt"
	"slices"
)

// ErrCounts is why a query that may cost nothing was not answered (ManifestQuery.Free).
var ErrCounts = errors.New("reading its manifest would count against the registry's rate limit")

// explain gives a failed pull, whose reason the engine's words do not tell, the
// reason that the registry tells, where asking it costs nothing. What the registry
// says is what a plan of the same image would say.
func (t *transfer) explain(err error) error {
	var e *Error
	if !errors.As(err, &e) || !e.Unclear || t.p.opts.Registry == nil {
		return err
	}
	engine, unknown := t.p.engine.Info(t.ctx)
	if unknown != nil {
		return err
	}
	m, why := t.p.manifest(t.ctx, PullRequest{Image: t.key.image, Platform: t.key.platform, Credentials: t.credentials}, engine.Platform, engine.OSVersion, true)
	explained := func(kind ErrorKind, because error) error {
		return &Error{Op: "pull", Ref: t.key.image, Kind: kind, RetryAfter: RetryAfterOf(why), Err: because}
	}
	switch kind := KindOf(why); {
	case e.Kind == ErrCorrupt && m.Zstd:
		return explained(ErrInvalidRequest, fmt.Errorf("this engine can't read zstd layers, which the image has: use an engine that can, or an image with gzip layers (%w)", Inner(err)))
	case e.Kind == ErrCorrupt, errors.Is(why, ErrCounts):
	case slices.Contains([]ErrorKind{ErrDenied, ErrNotFound, ErrRateLimited, ErrInvalidRequest, ErrPlatformMismatch}, kind):
		return explained(kind, fmt.Errorf("%w; the registry, asked for the reason: %w", Inner(err), Inner(why)))
	}
	return err
}
