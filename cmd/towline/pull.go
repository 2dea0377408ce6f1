package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

// A display shows what happens to the jobs of one call. show is called from
// one goroutine at a time, with the job as it was accepted.
type display interface {
	show(j *puller.Job, e puller.Event)
	// end takes away what is only there while something goes on.
	end()
}

func newPull(f *flags) *cobra.Command {
	var r puller.PullRequest
	var retries int
	cmd := &cobra.Command{
		Use:   "pull IMAGE...",
		Short: "Pull images, and return when they are proven to be there",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, images []string) error {
			if cmd.Flags().Changed("retries") {
				r.Retries = &retries
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return pullAll(ctx, c, r, images, f.display(cmd.OutOrStdout(), puller.JobPull))
		},
	}
	pullFlags(cmd, &r, &retries)
	return cmd
}

// pullFlags are the flags of what is asked for with each image.
func pullFlags(cmd *cobra.Command, r *puller.PullRequest, retries *int) {
	flags := cmd.Flags()
	flags.StringVar(&r.Platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "`os/arch[/variant]`, such as linux/arm64 (or DOCKER_DEFAULT_PLATFORM)")
	flags.StringVar((*string)(&r.Policy), "policy", "", "always, missing, never or newer (default as the daemon has it)")
	flags.BoolVar(&r.Strict, "strict", false, "with --policy newer, fail where the registry does not answer, and do not keep what is present")
	flags.StringVar((*string)(&r.Priority), "priority", "", "high, normal or low (default normal)")
	flags.DurationVar((*time.Duration)(&r.Timeout), "timeout", 0, "for each image (default as the daemon has it)")
	flags.IntVar(retries, "retries", 0, "attempts after the first (default as the daemon has it)")
}

// interruptible returns a context that a signal ends. A second one ends the
// program at once.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// display returns how jobs of a kind are shown.
func (f *flags) display(out io.Writer, kind puller.JobKind) display {
	switch {
	case f.json:
		return jsonLines{newJSON(out)}
	case f.quiet:
		return silent{}
	case isTerminal(out):
		file := out.(*os.File)
		if kind == puller.JobPrewarm {
			return newBatchBar(file)
		}
		return newBars(file)
	case kind == puller.JobPrewarm:
		return &plainBatch{out: out}
	}
	return newPlain(out)
}

// pullAll pulls the images side by side; the daemon bounds how many at a time.
// When ctx ends, it cancels those that are under way.
func pullAll(ctx context.Context, c *client.Client, r puller.PullRequest, images []string, d display) error {
	var mu sync.Mutex
	var failed failures
	var work sync.WaitGroup
	for _, image := range images {
		r := r // each has its own
		r.Image = image
		work.Go(func() {
			submit := func(ctx context.Context) (puller.Job, error) { return c.Submit(ctx, r) }
			err := follow(ctx, c, submit, func(j *puller.Job, e puller.Event) {
				mu.Lock()
				defer mu.Unlock()
				d.show(j, e)
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	work.Wait()
	d.end()
	if ctx.Err() != nil {
		return interrupted(os.Stderr, errors.Join(failed...))
	}
	if len(failed) > 1 {
		for _, err := range failed {
			fmt.Fprintln(os.Stderr, "towline: "+printable(err.Error()))
		}
	}
	if len(failed) > 0 {
		return failed
	}
	return nil
}

// errLeft is an interrupt that has left a job to run.
var errLeft = fmt.Errorf("%w, and the job goes on", context.Canceled)

// interrupted says what an interrupt has done that came out as err, and is its
// error.
func interrupted(errs io.Writer, err error) error {
	if errors.Is(err, errLeft) { // which has been told
		fmt.Fprintln(errs, "towline: interrupted")
	} else {
		fmt.Fprintln(errs, "towline: interrupted; what was under way has been canceled")
	}
	return context.Canceled
}

// follow submits a job and follows it to its end. A job that fails is an error.
// When ctx ends, it cancels it.
func follow(ctx context.Context, c *client.Client, submit func(context.Context) (puller.Job, error), show func(*puller.Job, puller.Event)) error {
	// Cut off in the middle, it would leave a job that nobody cancels.
	submitting, submitted := outlive(ctx)
	job, err := submit(submitting)
	submitted()
	if err != nil {
		return err
	}
	err = watch(ctx, c, &job, show)
	if ctx.Err() != nil {
		return cancel(c, job.ID, grace)
	}
	return err
}

// watch shows a job to its end. A job that fails is an error.
func watch(ctx context.Context, c *client.Client, job *puller.Job, show func(*puller.Job, puller.Event)) error {
	for e, err := range c.Events(ctx, job.ID) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case puller.KindOf(err) == puller.ErrNotFound && job.Kind == puller.JobRun:
			return puller.Errorf(puller.ErrInternal, "%s: the daemon does not know its job any more, nor whether its program has run", subject(job))
		case puller.KindOf(err) == puller.ErrNotFound:
			// Not the image is: the daemon has lost what it had on record.
			return puller.Errorf(puller.ErrOverloaded, "%s: the daemon does not know its job any more; ask again", subject(job))
		case err != nil:
			return fmt.Errorf("%s: what became of it is not known (towline jobs events %s asks again): %w", subject(job), job.ID, err)
		}
		show(job, e)
		if e.Result != nil {
			return outcome(*e.Result)
		}
	}
	return puller.Errorf(puller.ErrInternal, "%s: the daemon ended the stream without a result", subject(job))
}

// subject is what a job is about.
func subject(j *puller.Job) string {
	if j.Image == "" {
		return string(j.Kind) + " " + j.ID
	}
	return j.Image
}

// outcome is the error of a job that has ended, nil if it succeeded.
func outcome(j puller.Job) error {
	switch {
	case j.Error == nil:
		return nil
	case j.Kind == puller.JobPrewarm:
		if e := newIncomplete(j.Images); len(e.failed)+len(e.canceled) > 0 {
			return e
		}
	}
	return &puller.Error{Kind: j.Error.Kind, Err: fmt.Errorf("%s (%s)", j.Error.Message, j.Error.Kind)}
}

// grace is how long calls to the daemon may take after an interrupt.
const grace = 5 * time.Second

// outlive returns a context that ends when it is released, or grace after ctx.
func outlive(ctx context.Context) (longer context.Context, release func()) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, end) })
	return longer, func() { stop(); end() }
}

// cancel cancels a job after an interrupt. The error is context.Canceled, or
// errLeft where that did not succeed within the limit.
func cancel(c *client.Client, id string, limit time.Duration) error {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	if _, err := c.Cancel(ctx, id); err != nil && puller.KindOf(err) != puller.ErrConflict {
		fmt.Fprintf(os.Stderr, "towline: job %s could not be canceled, and goes on: %s\n", printable(id), printable(err.Error()))
		return errLeft
	}
	return context.Canceled
}

// jsonLines prints every event as it is.
type jsonLines struct{ out *json.Encoder }

func (d jsonLines) show(_ *puller.Job, e puller.Event) { d.out.Encode(e) }
func (d jsonLines) end()                               {}

// silent prints nothing.
type silent struct{}

func (silent) show(*puller.Job, puller.Event) {}
func (silent) end()                           {}
