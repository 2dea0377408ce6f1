package docker

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

// engineError is a failure that the engine reported inside a stream.
type engineError struct{ message string }

func (e *engineError) Error() string { return e.message }

// streamError is a stream that could not be read to a clean end.
type streamError struct{ err error }

func (e *streamError) Error() string {
	return "the engine's stream was cut or garbled before its end: " + e.err.Error()
}

func (e *streamError) Unwrap() error { return e.err }

// unreachable is a call of our own, beside the SDK, that got no answer.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// classify is the one place where an engine's error gets its kind: by ctx and
// by type where these tell it, and by the engine's words where only those do.
// The engine's own status codes come last, because engines give 404 to what was
// denied and 500 to most of the rest (Docker Engine 20.10 to 29). What its words
// say of a registry's status counts for what puller.KindOfStatus says.
func classify(ctx context.Context, op, ref string, err error) error {
	e := &puller.Error{Op: op, Ref: ref, Err: plain(err)}
	var cut *streamError
	var lost *unreachable
	var other *otherImage
	var known *puller.Error
	switch cause := context.Cause(ctx); {
	case cause != nil && errors.As(cause, &known):
		return known // who ended ctx said why
	case errors.Is(cause, context.DeadlineExceeded):
		e.Kind = puller.ErrTimeout
	case cause != nil:
		e.Kind = puller.ErrCanceled
	case errors.As(err, &cut):
		e.Kind = puller.ErrTruncated
	case errors.As(err, &other):
		e.Kind = puller.ErrCorrupt
	case client.IsErrConnectionFailed(err), errors.As(err, &lost):
		e.Kind = puller.ErrEngineUnavailable
	case slices.Contains(containerOps, op):
		e.Kind, e.Err = ofContainers(plain(err))
	default:
		e.Kind, e.Unclear = kindOfPull(err, ref)
		if op != "pull" {
			e.Kind, e.Unclear = kindWithoutRegistry(e.Kind, e.Unclear, err), false
		}
	}
	return e
}

// kindWithoutRegistry is the kind of a call in which no registry took part.
func kindWithoutRegistry(kind puller.ErrorKind, unclear bool, err error) puller.ErrorKind {
	switch {
	case unclear:
		return kindOfType(err)
	case kind == puller.ErrRegistryUnavailable:
		return puller.ErrEngineUnavailable
	case kind == puller.ErrTruncated: // it misses what the image needs
		return puller.ErrNotFound
	}
	return kind
}

func kindOfType(err error) puller.ErrorKind {
	switch {
	case cerrdefs.IsNotFound(err):
		return puller.ErrNotFound
	case cerrdefs.IsInvalidArgument(err):
		return puller.ErrInvalidRequest
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		return puller.ErrDenied
	case cerrdefs.IsConflict(err):
		return puller.ErrConflict
	case cerrdefs.IsResourceExhausted(err):
		return puller.ErrRateLimited
	case cerrdefs.IsUnavailable(err):
		return puller.ErrEngineUnavailable
	}
	return puller.ErrInternal
}

// withoutRef takes the image's name out of a message, so that a repository
// called "unauthorized" is not taken for the engine's word.
func withoutRef(message, ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return message
	}
	path, familiar := reference.Path(named), reference.FamiliarName(named)
	names := []string{
		named.String(), reference.FamiliarString(named), named.Name(), reference.Domain(named),
		" for " + familiar + ",", "repository " + familiar + " ", "/v2/" + path + "/", "'" + path + "'", url.QueryEscape(":" + path + ":"),
	}
	if tagged, ok := named.(reference.Tagged); ok {
		names = append(names, "manifests/"+tagged.Tag(), "manifest "+tagged.Tag()+" in ")
	}
	for _, name := range names {
		// A bare word stays: replacing "found" would take "not found" along.
		if strings.ContainsAny(name, "/:.' %") {
			message = strings.ReplaceAll(message, name, "<image>")
		}
	}
	return message
}

// plain leaves out what the SDK puts before the engine's own words.
func plain(err error) error {
	const prefix = "Error response from daemon: "
	if message, ok := strings.CutPrefix(err.Error(), prefix); ok {
		return &saidError{message, err}
	}
	return err
}

type saidError struct {
	message string
	err     error
}

func (e *saidError) Error() string { return e.message }
func (e *saidError) Unwrap() error { return e.err }
