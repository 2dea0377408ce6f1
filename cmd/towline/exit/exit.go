// Package exit says how a command ends: its exit code, and what its error says.
package exit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
)

// The exit codes of every command. A run exits with the code of its program.
const (
	CodeFailed      = 1
	CodeUsage       = 2
	CodePermanent   = 3 // the same call will fail again
	CodeRetryable   = 4 // the same call may succeed later
	CodeNoDaemon    = 5
	CodeInterrupted = 130
	CodePipe        = 141 // as a program that SIGPIPE killed
)

// Of "towline run", as docker run has them.
const (
	CodeRunFailed   = 125 // Towline could not run the program
	CodeNotExecuted = 126 // the program can't be executed
	CodeNoProgram   = 127 // there is no such program in the image
)

// runError is why a program was not run, or not to its end.
type runError struct {
	error
	code int
}

// OfRun returns the error of a run that ends with a code.
func OfRun(err error, code int) error { return runError{err, code} }

func (e runError) Unwrap() error { return e.error }

// UsageError is a command line that can't be understood.
type UsageError struct {
	err     error
	command string
}

// Usage returns the error of a command line. command is the command's path.
func Usage(err error, command string) error { return UsageError{err, command} }

func (e UsageError) Error() string {
	return fmt.Sprintf("%v (see %s --help)", e.err, e.command)
}

// Failures are the errors of several images. The exit code is that of the worst:
// after a permanent one, another try is useless.
type Failures []error

func (f Failures) Error() string { return render.Count(len(f), "image") + " failed" }

// Program is the exit code of a run's program.
type Program int

func (e Program) Error() string { return fmt.Sprintf("the program exited with %d", int(e)) }

// printedError is an error that was printed before.
type printedError struct{ error }

// Printed returns an error that was printed before.
func Printed(err error) error { return printedError{err} }

func (e printedError) Unwrap() error { return e.error }

// Code returns the exit code that follows from a command's error.
func Code(err error) int {
	var program Program
	var usage UsageError
	var run runError
	var config *configs.Error
	var all Failures
	var unreachable *client.Unreachable
	var known *puller.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &program):
		return int(program)
	case errors.Is(err, context.Canceled):
		return CodeInterrupted
	case errors.As(err, &run):
		return run.code
	case errors.As(err, &usage) && strings.HasSuffix(usage.command, " run"):
		return CodeRunFailed
	case errors.As(err, &usage), errors.As(err, &config):
		return CodeUsage
	case errors.As(err, &all):
		codes := make([]int, len(all))
		for i, e := range all {
			codes[i] = Code(e)
		}
		for _, worst := range []int{CodeNoDaemon, CodePermanent, CodeFailed} {
			if slices.Contains(codes, worst) {
				return worst
			}
		}
		return CodeRetryable
	case errors.As(err, &unreachable):
		return CodeNoDaemon
	case errors.As(err, &known):
		switch known.Kind {
		case puller.ErrNotFound, puller.ErrDenied, puller.ErrForbidden, puller.ErrPlatformMismatch, puller.ErrInvalidRequest:
			return CodePermanent
		}
		if known.Kind.Retryable() {
			return CodeRetryable
		}
	}
	return CodeFailed
}

// OfJob returns the error of a job that has ended, nil if it succeeded.
func OfJob(j puller.Job) error {
	if j.Error == nil {
		return nil
	}
	if j.Kind == puller.JobPrewarm {
		if e := newIncomplete(j.Images); e != nil {
			return e
		}
	}
	err := &puller.Error{Kind: j.Error.Kind, Err: fmt.Errorf("%s (%s)", j.Error.Message, j.Error.Kind)}
	return jobError{err, j.Error.Kind, j.Image}
}
