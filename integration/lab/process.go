package lab

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a child that is always reaped: one goroutine waits for its end, and
// ends with it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of cmd.Wait; to be read after done is closed
}

func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end and kills it after grace. It returns when the process
// is reaped, with what cmd.Wait said.
func (p *process) stop(grace time.Duration) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Process.Signal(syscall.SIGCONT) // a paused process would never see the first
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		return p.kill()
	}
}

// kill ends the process at once, and returns when it is reaped.
func (p *process) kill() error {
	p.cmd.Process.Kill()
	<-p.done
	return p.err
}

// ready asks until the answer is nil. It gives up when ctx ends, and as soon as the
// process does.
func (p *process) ready(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ended error
	err := Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		if !p.running() {
			ended = fmt.Errorf("%s ended: %v", filepath.Base(p.cmd.Path), p.cmd.ProcessState)
			cancel()
			return ended
		}
		return ask(ctx)
	})
	if ended != nil {
		return ended
	}
	return err
}

// running tells whether the process still runs. A nil process does not.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}
