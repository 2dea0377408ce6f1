package docker

import (
	"fmt"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
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

// unreachableError is a call without the SDK that got no answer.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// messageError is an error with another message.
type messageError struct {
	message string
	err     error
}

func (e *messageError) Error() string { return e.message }
func (e *messageError) Unwrap() error { return e.err }

// errNoAnswer is the cause of a call's context when the engine has taken too long.
func errNoAnswer(limit time.Duration) error {
	return puller.Errorf(puller.ErrEngineUnavailable, "the engine has not answered for %s", limit)
}

// engineMessage returns the engine's own message, without the SDK's prefix.
func engineMessage(err error) string {
	return strings.TrimPrefix(err.Error(), "Error response from daemon: ")
}

// forCaller returns an error with a message that callers may read: without the SDK's
// prefix, without the query strings of URLs, and, for a call about a container,
// without paths on the engine's disk. The advice follows in parentheses.
func forCaller(op string, err error, advice string) error {
	message := redact.URLQueries(engineMessage(err))
	if isContainerOp(op) {
		message = withoutHostPaths(message)
	}
	if advice != "" {
		message = fmt.Sprintf("%s (%s)", message, advice)
	}
	if message == err.Error() {
		return err
	}
	return &messageError{message, err}
}
