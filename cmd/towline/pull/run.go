package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/follow"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// NewRun returns the command run.
func NewRun(f *command.Flags) *cobra.Command {
	var r client.RunRequest
	var env []string
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [CMD...]",
		Short: "Run a program in a container, and exit with its code",
		Long: "Run an image's program in a container, and exit with its code. The image is\n" +
			"pulled first, if the policy says so. The container is removed afterwards.\n\n" +
			"Flags come before IMAGE; everything after IMAGE goes to the program. The program\n" +
			"has no standard input. Its output goes to the standard output and the standard\n" +
			"error, byte for byte. On a terminal, control sequences such as colours are\n" +
			"removed from it, because the program may not be trusted; --tty lets them pass.\n\n" +
			"Ctrl-C stops the program with SIGTERM, and 10 s later with SIGKILL. A second\n" +
			"Ctrl-C does not wait for that.\n\n" +
			"Where the program did not run to its end, the exit code is 125, as docker run has\n" +
			"it: 126 if the program can't be executed, and 127 if the image has no such program.",
		Example: "  towline run -m 512m --timeout 10m golang:1.26 go version\n" +
			"  towline run --network none -e LEVEL=debug alpine:3.20 sh -c 'echo $LEVEL'",
		Args: command.SomeArguments("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			defer func() { err = ofRun(args[0], err) }()
			r.Image, r.Cmd = args[0], args[1:]
			if r.Env, err = environment(env); err != nil {
				return exit.Usage(err, cmd.CommandPath())
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			defer c.Close()
			own := logins(cmd.Context(), f, args[:1], cmd.ErrOrStderr())
			r.Credentials = credentialsOf(own.Sent, r.Image)
			// A write returns EPIPE when the reader of the pipe is gone.
			signal.Ignore(syscall.SIGPIPE)
			defer signal.Reset(syscall.SIGPIPE)
			ctx, stop := follow.Interruptible(cmd.Context())
			defer stop()
			return own.Explain(run(ctx, f, c, r, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringArrayVarP(&env, "env", "e", nil, "variable for the program: `NAME=value`, or NAME to pass on its value; repeat it for several")
	flags.StringVarP(&r.Workdir, "workdir", "w", "", "working `directory` of the program")
	flags.StringVarP(&r.User, "user", "u", "", "`user[:group]` to run as, by name or ID")
	flags.BoolVarP(&r.TTY, "tty", "t", false, "give the program a terminal; its two outputs become one")
	flags.StringVar(&r.Network, "network", "", "network `mode`: bridge or none (default bridge)")
	flags.VarP(memoryFlag{&r.Memory}, "memory", "m", "memory limit with swap, such as 512m")
	flags.Var(&r.CPUs, "cpus", "limit of `CPUs`, such as 1.5")
	flags.Int64Var(&r.Pids, "pids", 0, "limit of processes and threads (default 1024)")
	flags.DurationVar((*time.Duration)(&r.Timeout), "timeout", 0, "time limit for the pull and the program, such as 30m (default: the daemon's pull.timeout)")
	flags.StringArrayVar(&r.Entrypoint, "entrypoint", nil, "`program` instead of the image's; repeat it for arguments")
	imageFlags(cmd, &r.Platform, &r.Policy, &r.Strict, &r.Accelerate)
	leaseFlag(cmd, &r.Lease)
	credentialsFlag(f, cmd)
	return cmd
}

var (
	noProgram   = regexp.MustCompile(`(?i)executable file .*not found|exec: .*: no such file or directory`)
	notExecuted = regexp.MustCompile(`(?i)exec: .*: (permission denied|is a directory|not a directory|exec format error)|exec format error`)
)

// ofRun returns the error of a run with docker's exit code for it and the image. It
// leaves the ends of programs, interrupts and the faults of this side as they are.
func ofRun(image string, err error) error {
	var program exit.Program
	var usage exit.UsageError
	var broken *outputError
	if err == nil || errors.As(err, &program) || errors.As(err, &usage) || errors.As(err, &broken) || errors.Is(err, context.Canceled) {
		return err
	}
	code, hint := exit.CodeRunFailed, ""
	if puller.KindOf(err) == puller.ErrInvalidRequest {
		switch {
		case noProgram.MatchString(err.Error()):
			code, hint = exit.CodeNoProgram, "; the image has no such program: check CMD and --entrypoint"
		case notExecuted.MatchString(err.Error()):
			code, hint = exit.CodeNotExecuted, "; this can't be executed: check CMD and --entrypoint, and the platform of the image"
		}
	}
	if !strings.Contains(err.Error(), image) {
		err = fmt.Errorf("run %s: %w", image, err)
	}
	if hint != "" {
		err = fmt.Errorf("%w%s", err, hint)
	}
	return exit.OfRun(err, code)
}

// environment reads NAME=value, and NAME, which takes the value of this process
// and is left out where there is none.
func environment(given []string) (map[string]string, error) {
	if len(given) == 0 {
		return nil, nil
	}
	env := make(map[string]string, len(given))
	for _, s := range given {
		name, value, ok := strings.Cut(s, "=")
		if name == "" {
			return nil, fmt.Errorf("--env: %q has no name; write NAME=value", s)
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

// stopGrace is how long the daemon may take to cancel a run. It answers when the
// program has ended; it kills the program after 10 s.
const stopGrace = 30 * time.Second

// run runs a program and follows it to its end. When ctx ends or an output fails,
// it cancels the job, and follows it all the same.
func run(ctx context.Context, f *command.Flags, c *client.Client, r client.RunRequest, stdout, stderr io.Writer) error {
	ending, end := context.WithCancelCause(ctx)
	defer end(nil)
	out, errs := &output{w: stdout, failed: end}, &output{w: stderr, failed: end}
	var d render.Display
	if f.JSON {
		d = render.JSONLines(out)
	} else {
		// Notices do not go through a SafeWriter: the program's last output may be the
		// beginning of a sequence, which would hide them.
		d = &render.Run{
			Stdout: programOutput(out, render.IsTerminal(stdout) && !r.TTY), Stderr: programOutput(errs, render.IsTerminal(stderr) && !r.TTY),
			Notices: errs, Quiet: f.Quiet, Pull: pullDisplay(f, stderr),
		}
	}
	submitting, submitted := follow.Outlive(ctx)
	job, err := c.Run(submitting, r)
	submitted()
	if err != nil {
		if ctx.Err() != nil {
			return follow.Interrupted(errs, err)
		}
		return err
	}
	following, leave := context.WithCancelCause(context.WithoutCancel(ctx))
	defer leave(nil)
	stop := context.AfterFunc(ending, func() {
		if err := follow.Cancel(c, job.ID, stopGrace); errors.Is(err, follow.ErrNotCanceled) {
			leave(err)
		}
	})
	var result *puller.Result
	err = follow.Watch(following, c, &job, func(j *puller.Job, e puller.Event) {
		if e.Result != nil {
			result = e.Result.Result
		}
		d.Show(j, e)
	})
	stop()
	d.Close()
	if cause := context.Cause(following); cause != nil {
		err = cause
	}
	var broken *outputError
	switch {
	case errors.As(context.Cause(ending), &broken) && errors.Is(broken, syscall.EPIPE):
		return exit.Program(exit.CodePipe)
	case broken != nil:
		return broken
	case result != nil && result.ExitCode != nil: // also where an interrupt came too late
		if *result.ExitCode == 0 {
			return nil
		}
		return exit.Program(*result.ExitCode)
	case ctx.Err() != nil:
		return follow.Interrupted(errs, err)
	}
	return err
}

// pullDisplay returns what shows the pull of a run's image.
func pullDisplay(f *command.Flags, out io.Writer) render.Display {
	if f.Quiet {
		return render.Silent{}
	}
	return render.New(out)
}

// programOutput returns where a program's output goes. safe removes its control
// sequences; a file or a pipe gets every byte.
func programOutput(w io.Writer, safe bool) io.Writer {
	if safe {
		return render.NewSafeWriter(w)
	}
	return w
}

// output is an output of a run. It calls failed when a write fails for the first
// time, and writes no more.
type output struct {
	w      io.Writer
	failed context.CancelCauseFunc
	err    error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = &outputError{err}
		o.failed(o.err)
	}
	return n, err
}

// outputError is why an output failed.
type outputError struct{ err error }

func (e *outputError) Error() string {
	return "the program's output could not be written, and the program was stopped: " + e.err.Error()
}

func (e *outputError) Unwrap() error { return e.err }
