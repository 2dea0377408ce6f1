package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// The exit codes of every command. A run exits with the code of its program.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitPermanent   = 3 // the same call will fail again
	exitRetryable   = 4 // the same call may succeed later
	exitNoDaemon    = 5
	exitInterrupted = 130
	exitPipe        = 141 // as a program that SIGPIPE killed
)

// Of "towline run", as docker run has them.
const (
	exitRunFailed   = 125 // Towline could not run the program
	exitNotExecuted = 126 // the program can't be executed
	exitNoProgram   = 127 // there is no such program in the image
)

// runError is why a program was not run, or not to its end.
type runError struct {
	error
	code int
}

func (e runError) Unwrap() error { return e.error }

// failures are the errors of several images. The exit code is that of the worst:
// after a permanent one, another try is useless.
type failures []error

func (f failures) Error() string { return render.Count(len(f), "image") + " failed" }

// programExit is the exit code of a run's program.
type programExit int

func (e programExit) Error() string { return fmt.Sprintf("the program exited with %d", int(e)) }

// printedError is an error that was printed before.
type printedError struct{ error }

func (e printedError) Unwrap() error { return e.error }

// exitCode returns the exit code that follows from a command's error.
func exitCode(err error) int {
	var program programExit
	var usage usageError
	var run runError
	var all failures
	var unreachable *client.Unreachable
	var known *puller.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &program):
		return int(program)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &run):
		return run.code
	case errors.As(err, &usage) && strings.HasSuffix(usage.command, " run"):
		return exitRunFailed
	case errors.As(err, &usage):
		return exitUsage
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
	case errors.As(err, &unreachable):
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

// message returns what a command's error says, "" if all was said before. Each
// fault of a Compose project has its own line.
func message(err error) string {
	var program programExit
	var printed printedError
	if err == nil || exitCode(err) == exitInterrupted || errors.As(err, &program) || errors.As(err, &printed) {
		return ""
	}
	var faults compose.Faults
	if errors.As(err, &faults) {
		var lines []string
		for _, fault := range faults {
			lines = append(lines, render.SafeText(fault.Error()))
		}
		return strings.Join(lines, "\ntowline: ")
	}
	text := render.SafeText(err.Error())
	if advice := advice(err); advice != "" {
		text += ". " + render.SafeText(advice)
	}
	if advice := deniedAdvice(deniedImages(err)); advice != "" {
		text += "\ntowline: " + render.SafeText(advice)
	}
	return text
}

// advice says what to do about an error that does not say it itself, "" for most.
func advice(err error) string {
	var unreachable *client.Unreachable
	var several failures
	switch {
	case errors.As(err, &several):
		for _, e := range several {
			if text := advice(e); text != "" {
				return text
			}
		}
		return ""
	case !errors.As(err, &unreachable):
		return ""
	case errors.Is(err, fs.ErrPermission):
		return `Join the group that owns the socket ("socket_group" in towline.yaml), or run this as root.`
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return `Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`
	}
	return ""
}
