package puller

import (
	"errors"
	"fmt"
	"time"
)

// ErrorKind says what went wrong, in the words of the API. What may be retried, and
// the HTTP status, follow from it.
type ErrorKind string

// The kinds of error.
const (
	ErrInvalidRequest      ErrorKind = "invalid_request"
	ErrUnauthorized        ErrorKind = "unauthorized" // the caller, by Towline
	ErrForbidden           ErrorKind = "forbidden"    // by Towline's rules
	ErrDenied              ErrorKind = "denied"       // by the registry
	ErrNotFound            ErrorKind = "not_found"
	ErrConflict            ErrorKind = "conflict"
	ErrCanceled            ErrorKind = "canceled"
	ErrPlatformMismatch    ErrorKind = "platform_mismatch"
	ErrRateLimited         ErrorKind = "rate_limited"
	ErrEngineUnavailable   ErrorKind = "engine_unavailable"
	ErrRegistryUnavailable ErrorKind = "registry_unavailable"
	ErrTruncated           ErrorKind = "truncated" // a stream ended early, or an image is not there after it
	ErrCorrupt             ErrorKind = "corrupt"
	ErrStalled             ErrorKind = "stalled"
	ErrTimeout             ErrorKind = "timeout"
	ErrNoSpace             ErrorKind = "no_space"
	ErrOverloaded          ErrorKind = "overloaded"
	ErrInternal            ErrorKind = "internal"
)

// ErrorKinds returns all kinds.
func ErrorKinds() []ErrorKind {
	return []ErrorKind{
		ErrInvalidRequest, ErrUnauthorized, ErrForbidden, ErrDenied, ErrNotFound, ErrConflict, ErrCanceled, ErrPlatformMismatch,
		ErrRateLimited, ErrEngineUnavailable, ErrRegistryUnavailable, ErrTruncated, ErrCorrupt, ErrStalled, ErrTimeout,
		ErrNoSpace, ErrOverloaded, ErrInternal,
	}
}

// Retryable reports whether the same request may succeed at another time
// without anyone changing anything.
func (k ErrorKind) Retryable() bool {
	switch k {
	case ErrRateLimited, ErrEngineUnavailable, ErrRegistryUnavailable, ErrTruncated, ErrCorrupt, ErrStalled, ErrOverloaded:
		return true
	}
	return false
}

// Error is every error this package and its engines return.
type Error struct {
	Op   string // what was tried: "pull", "inspect", …; may be empty
	Ref  string // the image it was tried with; may be empty
	Kind ErrorKind
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
func Errorf(kind ErrorKind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of an error: "" for nil, ErrInternal for an error that is no
// *Error.
func KindOf(err error) ErrorKind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	}
	return ErrInternal
}

// RetryAfterOf returns how long an error says to wait, 0 if it does not.
func RetryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// Inner returns what an Error came from, without its Op and Ref.
func Inner(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// WithoutCredentials returns an error of a kind with the reason why the registry
// was shown no credentials of Towline's own, where that may be its cause.
func WithoutCredentials(kind ErrorKind, err, unshown error) error {
	if unshown == nil || kind != ErrDenied && kind != ErrNotFound {
		return err
	}
	return &Error{Kind: kind, RetryAfter: RetryAfterOf(err), Err: fmt.Errorf("%w; no credentials were shown: %w", err, Inner(unshown))}
}

// askLater is how long a caller at its limit waits before it asks again.
const askLater = 5 * time.Second

// Overloaded returns an ErrOverloaded error that names what there is too much of. A
// caller may ask again after five seconds.
func Overloaded(format string, args ...any) error {
	return &Error{Kind: ErrOverloaded, RetryAfter: askLater, Err: fmt.Errorf(format+"; ask again later", args...)}
}
