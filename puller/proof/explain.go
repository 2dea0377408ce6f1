package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/towline/towline/puller"
)

// Explain returns why a pull of an image failed. Where the engine's words do not say it
// (puller.Error.Unclear), the registry's answer does. ask asks for the image's manifest,
// where that costs nothing.
func Explain(ctx context.Context, image string, err error, ask func(context.Context) (puller.Manifest, error)) error {
	var e *puller.Error
	if !errors.As(err, &e) || !e.Unclear {
		return err
	}
	m, reason := ask(ctx)
	explained := func(kind puller.ErrorKind, because error) error {
		return &puller.Error{Op: "pull", Ref: image, Kind: kind, RetryAfter: puller.RetryAfterOf(reason), Err: because}
	}
	switch kind := puller.KindOf(reason); {
	case errors.Is(reason, ErrNoRegistry):
	case e.Kind == puller.ErrCorrupt && m.Zstd:
		return explained(puller.ErrInvalidRequest, fmt.Errorf("this engine can't read zstd layers, which the image has: use an engine that can, or an image with gzip layers (%w)", puller.Inner(err)))
	case e.Kind == puller.ErrCorrupt, errors.Is(reason, puller.ErrCounts):
	case slices.Contains([]puller.ErrorKind{puller.ErrDenied, puller.ErrNotFound, puller.ErrRateLimited, puller.ErrInvalidRequest, puller.ErrPlatformMismatch}, kind):
		return explained(kind, fmt.Errorf("%w; the registry, asked for the reason: %w", puller.Inner(err), puller.Inner(reason)))
	}
	return err
}
