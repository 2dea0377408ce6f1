package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

func newRun(f *flags) *cobra.Command {
	var r puller.RunRequest
	var env []string
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [CMD...]",
		Short: "Run an image's program in a container, and exit as it does",
		Long: "Run an image's program in a container, and exit as it does. The image is pulled\n" +
			"first where the policy says so, and the container is gone afterwards.\n\n" +
			"What the program prints comes out as it is, on the standard output and the\n" +
			"standard error; the exit code is its own. The flags are those before IMAGE:\n" +
			"what follows it is the program's. It has no standard input.\n\n" +
			"To a terminal it comes without control sequences, for the program may be\n" +
			"anyone's; --tty gives it the terminal, and then lets them pass, colours too.\n\n" +
			"Ctrl-C has the program ended: SIGTERM, and SIGKILL 10 s later. A second one\n" +
			"does not wait for that.",
		Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Image, r.Cmd = args[0], args[1:]
			if r.Env, err = environment(env); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			defer c.Close()
			// A pipe that nobody reads any more is seen by what is written to it.
			signal.Ignore(syscall.SIGPIPE)
			defer signal.Reset(syscall.SIGPIPE)
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return f.run(ctx, c, r, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringArrayVarP(&env, "env", "e", nil, "`NAME=value` for the program, or NAME for its value here; may be given again")
	flags.StringVarP(&r.Workdir, "workdir", "w", "", "the program's working `directory`")
	flags.StringVarP(&r.User, "user", "u", "", "`name|uid[:group|gid]` to run as")
	flags.BoolVarP(&r.TTY, "tty", "t", false, "give the program a terminal; it then has one output only")
	flags.StringVar(&r.Network, "network", "", "none or bridge (default bridge)")
	flags.VarP(memoryFlag{&r.Memory}, "memory", "m", "at most so much memory, swap included, such as 512m")
	flags.Var(&r.CPUs, "cpus", "at most so many `CPUs`, such as 1.5")
	flags.Int64Var(&r.Pids, "pids", 0, "at most so many processes and threads (default 1024)")
	flags.DurationVar((*time.Duration)(&r.Timeout), "timeout", 0, "for all of it, the pull included (default as the daemon has it)")
	flags.StringArrayVar(&r.Entrypoint, "entrypoint", nil, "the `program`, in place of the image's; given again, its first arguments")
	flags.StringVar(&r.Platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "`os/arch[/variant]`, such as linux/arm64 (or DOCKER_DEFAULT_PLATFORM)")
	flags.StringVar((*string)(&r.Policy), "policy", "", "always, missing, never or newer (default as the daemon has it)")
	flags.BoolVar(&r.Strict, "strict", false, "with --policy newer, fail where the registry does not answer, and do not keep what is present")
	return cmd
}

// environment reads NAME=value, and NAME, which is left out where it has no
// value here.
func environment(given []string) (map[string]string, error) {
	if len(given) == 0 {
		return nil, nil
	}
	env := make(map[string]string, len(given))
	for _, s := range given {
		name, value, ok := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q has no name", s)
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				delete(env, name)
				continue
			}
		}
		env[name] = value
	}
	return env, nil
}

// memoryFlag is a size as the API takes it.
type memoryFlag struct{ *puller.Memory }

func (m memoryFlag) Type() string { return "size" }

func (m memoryFlag) String() string {
	if m.Memory == nil || *m.Memory == 0 {
		return ""
	}
	return fmt.Sprint(int64(*m.Memory))
}

func (m memoryFlag) Set(s string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return m.UnmarshalJSON(text)
}

// stopGrace is how long the daemon may take to cancel a run: it answers when the
// program has ended, which may take 10 s until it is killed.
const stopGrace = 30 * time.Second

// run runs a program and follows it to its end. When ctx ends, or nobody takes
// what it prints any more, it cancels the job, and goes on to its end.
func (f *flags) run(ctx context.Context, c *client.Client, r puller.RunRequest, stdout, stderr io.Writer) error {
	ending, end := context.WithCancelCause(ctx)
	defer end(nil)
	out, errs := &outlet{w: stdout, broken: end}, &outlet{w: stderr, broken: end}
	var d display
	if f.json {
		d = jsonLines{newJSON(out)}
	} else {
		// What is told beside the program's output does not go through what may
		// be in the middle of a sequence of the program's.
		d = &console{
			out: spoken(out, isTerminal(stdout) && !r.TTY), programErrs: spoken(errs, isTerminal(stderr) && !r.TTY),
			errs: errs, quiet: f.quiet, progress: f.display(stderr, puller.JobRun),
		}
	}
	submitting, submitted := outlive(ctx)
	job, err := c.Run(submitting, r)
	submitted()
	if err != nil {
		if ctx.Err() != nil {
			return interrupted(errs, err)
		}
		return err
	}
	following, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	stop := context.AfterFunc(ending, func() {
		if err := cancel(c, job.ID, stopGrace); errors.Is(err, errLeft) {
			leave(err)
		}
	})
	var result *puller.Result
	err = watch(following, c, &job, func(j *puller.Job, e puller.Event) {
		if e.Result != nil {
			result = e.Result.Result
		}
		d.show(j, e)
	})
	stop()
	d.end()
	if cause := context.Cause(following); cause != nil {
		err = cause
	}
	var broken *brokenOutput
	switch {
	case errors.As(context.Cause(ending), &broken) && errors.Is(broken, syscall.EPIPE):
		return exited(exitPipe)
	case broken != nil:
		return broken
	case result != nil && result.ExitCode != nil: // also where an interrupt came too late
		if *result.ExitCode == 0 {
			return nil
		}
		return exited(*result.ExitCode)
	case ctx.Err() != nil:
		return interrupted(errs, err)
	}
	return err
}

// spoken is where a program's output goes. To a terminal that was not given to
// the program, it goes without control sequences. A file or a pipe gets every byte.
func spoken(w io.Writer, foreign bool) io.Writer {
	if foreign {
		return &tame{w: w}
	}
	return w
}

// outlet is an output that tells the first time that it takes no more.
type outlet struct {
	w      io.Writer
	broken context.CancelCauseFunc
	err    error
}

func (o *outlet) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = &brokenOutput{err}
		o.broken(o.err)
	}
	return n, err
}

// brokenOutput is why an output takes no more.
type brokenOutput struct{ err error }

func (e *brokenOutput) Error() string {
	return "what the program prints can't be passed on, and it was ended: " + e.err.Error()
}

func (e *brokenOutput) Unwrap() error { return e.err }
