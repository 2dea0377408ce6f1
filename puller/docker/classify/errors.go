package classify

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
)

// EngineError is a failure that the engine reported inside a stream.
type EngineError struct{ Message string }

func (e *EngineError) Error() string { return e.Message }

// StreamError is a stream that could not be read to a clean end.
type StreamError struct{ Err error }

func (e *StreamError) Error() string {
	return "the engine's stream was cut or garbled before its end: " + e.Err.Error()
}

func (e *StreamError) Unwrap() error { return e.Err }

// UnreachableError is a call without the SDK that got no answer.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return e.Err.Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

// MessageError is an error with another message.
type MessageError struct {
	Message string
	Err     error
}

func (e *MessageError) Error() string { return e.Message }
func (e *MessageError) Unwrap() error { return e.Err }

// ErrNoAnswer is the cause of a call's context when the engine has taken too long.
func ErrNoAnswer(limit time.Duration) error {
	return puller.Errorf(puller.ErrEngineUnavailable, "the engine has not answered for %s", limit)
}

// engineMessage returns the engine's own message, without the SDK's prefix.
func engineMessage(err error) string {
	return strings.TrimPrefix(err.Error(), "Error response from daemon: ")
}

// noAccess finds the SDK's own words on a socket that it may not use. After the address, it
// says the same once more, with an escaped one.
var noAccess = regexp.MustCompile(`^(permission denied while trying to connect to .+ at \S+): \w+ "http://.+$`)

// notInTime finds the words on a call that its caller has given up. The address in them is an
// escaped one of the engine.
var notInTime = regexp.MustCompile(`^\w+ "http://%2F[^"]+": context deadline exceeded$`)

// forCaller returns an error with a message that callers may read: without the SDK's
// prefix, without the query strings of URLs, and, for a call about a container,
// without paths on the engine's disk. The advice follows in parentheses.
func forCaller(op string, err error, advice string) error {
	message := redact.URLQueries(engineMessage(err))
	message = noAccess.ReplaceAllString(message, "$1")
	message = notInTime.ReplaceAllString(message, "the engine has not answered in time")
	if isContainerOp(op) {
		message = withoutHostPaths(message)
	}
	if advice != "" {
		message = fmt.Sprintf("%s (%s)", message, advice)
	}
	if message == err.Error() {
		return err
	}
	return &MessageError{Message: message, Err: err}
}

// WrongImageError: the engine made a container of another image.
type WrongImageError struct{ Got, Want string }

func (e *WrongImageError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("the engine does not say which image it made the container of; %s was asked for", e.Want)
	}
	return fmt.Sprintf("the engine made the container of the image %.80q, not of %s", e.Got, e.Want)
}
