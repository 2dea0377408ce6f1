// Package follow follows the job of a command to its end, and cancels it when the command
// is interrupted.
package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// grace is how long a call to the daemon may take after an interrupt.
const grace = 5 * time.Second

// ErrNotCanceled is an interrupt whose job could not be canceled.
var ErrNotCanceled = fmt.Errorf("%w, and the job still runs", context.Canceled)

// Interruptible returns a context that SIGINT or SIGTERM ends. A second signal
// ends the program at once.
func Interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Job submits a job and follows it to its end. A job that fails is an error.
// When ctx ends, it cancels the job.
func Job(ctx context.Context, c *client.Client, submit func(context.Context) (puller.Job, error), show func(*puller.Job, puller.Event)) error {
	// A submission that is cut off could leave a job that nobody cancels.
	submitting, submitted := Outlive(ctx)
	job, err := submit(submitting)
	submitted()
	if err != nil {
		return err
	}
	err = Watch(ctx, c, &job, show)
	if ctx.Err() != nil {
		return Cancel(c, job.ID, grace)
	}
	return err
}

// Watch shows a job's events to its end. A job that fails is an error.
func Watch(ctx context.Context, c *client.Client, job *puller.Job, show func(*puller.Job, puller.Event)) error {
	for e, err := range c.Events(ctx, job.ID) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case puller.KindOf(err) == puller.ErrNotFound && job.Kind == puller.JobRun:
			return puller.Errorf(puller.ErrInternal, "%s: the daemon has lost job %s; the program may or may not have run", subject(job), job.ID)
		case puller.KindOf(err) == puller.ErrNotFound:
			// The job is not found. The image may be.
			return puller.Errorf(puller.ErrOverloaded, "%s: the daemon has lost job %s; try again", subject(job), job.ID)
		case err != nil:
			return fmt.Errorf("%s: the end of the job is unknown; \"towline jobs events %s\" shows it: %w", subject(job), job.ID, err)
		}
		show(job, e)
		if e.Result != nil {
			return exit.OfJob(*e.Result)
		}
	}
	return puller.Errorf(puller.ErrInternal, "%s: the daemon ended the stream of events without a result", subject(job))
}

// subject names a job in a message.
func subject(j *puller.Job) string {
	if j.Image == "" {
		return string(j.Kind) + " " + j.ID
	}
	return j.Image
}

// Outlive returns a context that ends when it is released, or grace after ctx.
func Outlive(ctx context.Context) (longer context.Context, release func()) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, end) })
	return longer, func() { stop(); end() }
}

// Cancel cancels a job after an interrupt. It returns context.Canceled, or
// ErrNotCanceled where the daemon did not do it within the limit.
func Cancel(c *client.Client, id string, limit time.Duration) error {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	if _, err := c.Cancel(ctx, id); err != nil && puller.KindOf(err) != puller.ErrConflict {
		fmt.Fprintln(os.Stderr, "towline: "+render.SafeText(fmt.Sprintf("job %s could not be canceled and still runs: %v", id, err)))
		return ErrNotCanceled
	}
	return context.Canceled
}

// Interrupted says what an interrupt did, and returns its error. err is what
// following the jobs returned.
func Interrupted(errs io.Writer, err error) error {
	if errors.Is(err, ErrNotCanceled) { // Cancel has said so
		fmt.Fprintln(errs, "towline: interrupted")
	} else {
		fmt.Fprintln(errs, "towline: interrupted; this command's jobs were canceled")
	}
	return context.Canceled
}
