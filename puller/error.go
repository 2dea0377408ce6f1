package puller

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong, in the words of the API. What may be retried, and
// the HTTP status, follow from it.
type Kind string

// The kinds of error.
const (
	InvalidRequest      Kind = "invalid_request"
	Unauthorized        Kind = "unauthorized" // the caller, by Towline
	Forbidden           Kind = "forbidden"    // by Towline's rules
	Denied              Kind = "denied"       // by the registry
	NotFound            Kind = "not_found"
	Conflict            Kind = "conflict"
	Canceled            Kind = "canceled"
	PlatformMismatch    Kind = "platform_mismatch"
	RateLimited         Kind = "rate_limited"
	EngineUnavailable   Kind = "engine_unavailable"
	RegistryUnavailable Kind = "registry_unavailable"
	Truncated           Kind = "truncated" // a stream ended early, or an image is not there after it
	Corrupt             Kind = "corrupt"
	Stalled             Kind = "stalled"
	Timeout             Kind = "timeout"
	NoSpace             Kind = "no_space"
	Overloaded          Kind = "overloaded"
	Internal            Kind = "internal"
)

// Retryable reports whether the same request may succeed at another time
// without anyone changing anything.
func (k Kind) Retryable() bool {
	switch k {
	case RateLimited, EngineUnavailable, RegistryUnavailable, Truncated, Corrupt, Stalled, Overloaded:
		return true
	}
	return false
}

// Error is every error this package and its engines return.
type Error struct {
	Op   string // what was tried: "pull", "inspect", …; may be empty
	Ref  string // the image it was tried with; may be empty
	Kind Kind
	// RetryAfter is how long to wait before another try; 0 where unknown.
	RetryAfter time.Duration
	// Unclear says that the engine's words do not tell why, and that the registry
	// knows: its status, or of what type the image's layers are. Kind is the best
	// that can be said without asking it.
	Unclear bool
	Err     error // never nil
}

// Error says what was tried, with what, and what came of it.
func (e *Error) Error() string {
	s := e.Err.Error()
	switch {
	case e.Op != "" && e.Ref != "":
		return e.Op + " " + e.Ref + ": " + s
	case e.Op+e.Ref != "":
		return e.Op + e.Ref + ": " + s
	}
	return s
}

// Unwrap returns what the error came from.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of a kind, without Op and Ref.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of an error: "" for nil, Internal for one that is no
// Error.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	}
	return Internal
}

// retryAfterOf returns how long an error says to wait, 0 if it does not.
func retryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// inner returns what an Error came from, without its Op and Ref.
func inner(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// WithoutCredentials returns an error of a kind with the reason why the registry
// was shown no credentials of Towline's own, where that may be what it comes from.
func WithoutCredentials(kind Kind, err, unshown error) error {
	if unshown == nil || kind != Denied && kind != NotFound {
		return err
	}
	return &Error{Kind: kind, RetryAfter: retryAfterOf(err), Err: fmt.Errorf("%w; no credentials were shown: %w", err, inner(unshown))}
}
