package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	readyTimeout = 60 * time.Second
	stopGrace    = 15 * time.Second
)

// PrivateOptions are what a private engine may differ in. The zero value is good.
type PrivateOptions struct {
	// Flags are added to dockerd's command line, after those of our own.
	Flags []string
	// TmpfsMiB, when not 0, puts the engine's data on a tmpfs of that many MiB, to
	// be filled by a test.
	TmpfsMiB int
	// DiskMiB is TmpfsMiB for an ext4 file system in a file.
	DiskMiB int
	// Namespace is the path of the network namespace that it runs in, "" for this
	// process's own.
	Namespace string
	// Logf logs an installation. It may be nil.
	Logf func(string, ...any)
}

// errShared is the error of a stop of an engine that others may use.
var errShared = errors.New("lab: the engine is not a private one")

// Private starts a dockerd of our own and waits until it answers. All it keeps lies
// in dir/dockerd: data, sockets, pid file and log (dir/dockerd/log); where dir is
// too long for a socket's path, the sockets lie in a short temporary directory. It
// has no bridge network: containers get none, or the host's.
//
// It needs root. Where there is no dockerd, and the machine is a Debian or an Ubuntu,
// it is installed with apt-get. ctx bounds the installation and the start, not
// the engine's life. An engine that does not answer within 60 s is an error, with
// the last lines of its log.
//
// dir is one engine's at a time: what an earlier run left in dir/dockerd, processes
// and mounts included, is removed first.
func Private(ctx context.Context, dir string, opts PrivateOptions) (*Engine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: a private engine needs root")
	}
	logf := opts.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	binary, err := engineBinary(ctx, logf)
	if err != nil {
		return nil, fmt.Errorf("lab: private engine: %w", err)
	}
	own, err := newDaemon(binary, dir, opts)
	if err != nil {
		return nil, fmt.Errorf("lab: private engine in %s: %w", dir, err)
	}
	engine := &Engine{
		Host:   "unix://" + own.socket(),
		client: socketClient("unix", own.socket()),
		own:    own,
	}
	if err := engine.Start(ctx); err != nil {
		return nil, errors.Join(err, own.clear())
	}
	return engine, nil
}

// Start starts a private engine again after Stop or Kill, on the same data and the
// same socket, and waits until it answers, 60 s at most. If it does not, it is ended
// again.
func (e *Engine) Start(ctx context.Context) error {
	if e.own == nil {
		return errShared
	}
	proc, err := e.own.launch()
	if err != nil {
		return fmt.Errorf("lab: starting the engine: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := proc.ready(ctx, e.Ping); err != nil {
		e.own.end(0)
		return fmt.Errorf("lab: starting the engine: %w\n%s", err, e.own.tail())
	}
	return nil
}

// Stop ends a private engine the orderly way: SIGTERM, and SIGKILL after 15 s. Its
// data stays, for Start. It is no error if the engine does not run, nor if it left
// in anger.
func (e *Engine) Stop() error {
	if e.own == nil {
		return errShared
	}
	return e.own.end(stopGrace)
}

// Kill ends a private engine's dockerd with SIGKILL and returns when it is gone. Its
// data stays, for Start, and so do its containers, as after any crash; its
// containerd goes with it.
func (e *Engine) Kill() error {
	if e.own == nil {
		return errShared
	}
	return e.own.end(0)
}

// Pause stops a private engine's dockerd in its tracks (SIGSTOP): it answers nothing
// more, while its connections stay open. Resume, Stop, Kill and Close end that. It returns
// when every thread has stopped: until then one may still answer a request.
func (e *Engine) Pause() error {
	if err := e.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pid := e.own.process().cmd.Process.Pid
	return Poll(ctx, time.Millisecond, func(context.Context) error { return stopped(pid) })
}

// stopped returns an error that names a thread which runs on.
func stopped(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return err
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		// The state follows the name, which is in parentheses (proc(5)).
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("lab: %s: %.1s", file, state)
		}
	}
	return nil
}

// Resume lets a paused engine go on (SIGCONT).
func (e *Engine) Resume() error { return e.signal(syscall.SIGCONT) }

// Pid returns the process id of a private engine's dockerd, 0 where it does not run
// or is not ours.
func (e *Engine) Pid() int {
	if e.own == nil {
		return 0
	}
	proc := e.own.process()
	if proc == nil {
		return 0
	}
	return proc.cmd.Process.Pid
}

func (e *Engine) signal(sig os.Signal) error {
	if e.own == nil {
		return errShared
	}
	proc := e.own.process()
	if proc == nil {
		return errors.New("lab: the engine does not run")
	}
	return proc.cmd.Process.Signal(sig)
}

// Close stops a private engine and removes all there is of it: processes, mounts and
// files. What the kernel and containerd share out by container stays, and is empty: after
// a Kill, cgroups under docker/ and sockets under /run/containerd/s. Calling it again
// does no harm. With an engine that was found it does nothing.
func (e *Engine) Close() error {
	if e.own == nil {
		return nil
	}
	if err := errors.Join(e.Stop(), e.own.clear()); err != nil {
		return fmt.Errorf("lab: removing the engine: %w", err)
	}
	return nil
}
