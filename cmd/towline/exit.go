package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

// The exit codes of every command. A run whose program has ended exits with its
// code.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitPermanent   = 3 // the same call will fail again
	exitRetryable   = 4 // the same call is worth another try
	exitNoDaemon    = 5
	exitInterrupted = 130
	exitPipe        = 141 // as SIGPIPE ends others
)

// usageError is a call that could not be understood.
type usageError struct {
	err     error
	command string
}

func (e usageError) Error() string {
	return fmt.Sprintf("%v (see %s --help)", e.err, e.command)
}

// failures are the errors of several images. Their exit code is that of the
// worst: one that is permanent makes another try pointless.
type failures []error

func (f failures) Error() string {
	if len(f) == 1 {
		return f[0].Error()
	}
	return fmt.Sprintf("%d images failed", len(f))
}

// exited is the exit code of a program that was run. What went wrong, it has said
// itself.
type exited int

func (e exited) Error() string { return fmt.Sprintf("the program exited with %d", int(e)) }

// told is an error that was printed already.
type told struct{ error }

func (t told) Unwrap() error { return t.error }

func exitCode(err error) int {
	var program exited
	var u usageError
	var all failures
	var gone *client.Unreachable
	var known *puller.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &program):
		return int(program)
	case errors.As(err, &u), strings.HasPrefix(err.Error(), "unknown command "):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &all):
		codes := make([]int, len(all))
		for i, e := range all {
			codes[i] = exitCode(e)
		}
		for _, worst := range []int{exitNoDaemon, exitPermanent, exitFailed} {
			if slices.Contains(codes, worst) {
				return worst
			}
		}
		return exitRetryable
	case errors.As(err, &gone):
		return exitNoDaemon
	case errors.As(err, &known):
		switch known.Kind {
		case puller.ErrNotFound, puller.ErrDenied, puller.ErrForbidden, puller.ErrPlatformMismatch, puller.ErrInvalidRequest:
			return exitPermanent
		}
		if known.Kind.Retryable() {
			return exitRetryable
		}
	}
	return exitFailed
}
