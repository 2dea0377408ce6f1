package enginetest

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// A Program is what an image's containers do after their start. It returns the exit code.
// It runs on its own goroutine and must return when its process is killed. SIGTERM ends a
// process with 143 unless it ignores it.
type Program func(p *Process) int

// Process is a container that runs a Program.
type Process struct {
	ID        string
	Requested ContainerRequest

	container *container
}

// Stdout is the standard output. With a TTY it is the same stream as Stderr, and lines end
// with CR LF.
func (p *Process) Stdout() io.Writer { return printer{p.container, 1} }

// Stderr is the standard error.
func (p *Process) Stderr() io.Writer { return printer{p.container, 2} }

// IgnoreTERM makes the process ignore SIGTERM from now on.
func (p *Process) IgnoreTERM() {
	p.container.mu.Lock()
	defer p.container.mu.Unlock()
	p.container.ignoresTERM = true
}

// Killed is closed when the process is killed.
func (p *Process) Killed() <-chan struct{} { return p.container.killed }

// OOM ends the process as the kernel does when memory is short.
func (p *Process) OOM() int {
	p.container.mu.Lock()
	defer p.container.mu.Unlock()
	p.container.oomKilled = true
	return 137
}

// Wait waits for a time. It returns false when the process is killed.
func (p *Process) Wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.Killed():
		return false
	}
}

// Until waits for the channel. It returns false when the process is killed.
func (p *Process) Until(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-p.Killed():
		return false
	}
}

// Print is a Program that prints to both streams, and exits.
func Print(stdout, stderr string, code int) Program {
	return func(p *Process) int {
		io.WriteString(p.Stdout(), stdout)
		io.WriteString(p.Stderr(), stderr)
		return code
	}
}

// Hang is a Program that prints to stdout and then waits until it is killed.
func Hang(stdout string) Program {
	return func(p *Process) int {
		io.WriteString(p.Stdout(), stdout)
		<-p.Killed()
		return 0
	}
}

// container is a container of the engine.
type container struct {
	id, name  string
	requested ContainerRequest
	labels    map[string]string
	image     string        // an ID
	manifest  string        // in the containerd image store
	killed    chan struct{} // closed when it is killed
	removed   chan struct{}
	died      func() // called at the exit
	madeAt    time.Time

	mu          sync.Mutex
	status      string // created, running or exited
	ignoresTERM bool
	oomKilled   bool
	code        int
	started     time.Time
	finished    time.Time
	printed     []piece
	changed     chan struct{} // closed and replaced when anything above changes
}

// piece is the output of one write. stream is 1 for stdout and 2 for stderr.
type piece struct {
	stream byte
	bytes  []byte
}

// change wakes up all waiters. The caller holds mu.
func (c *container) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

type printer struct {
	c      *container
	stream byte
}

func (p printer) Write(b []byte) (int, error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.c.status != "running" {
		return 0, io.ErrClosedPipe
	}
	n, stream := len(b), p.stream
	if p.c.requested.Tty {
		stream, b = 1, bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
	}
	for b = bytes.Clone(b); len(b) > 0; {
		size := min(len(b), 16<<10)
		p.c.printed = append(p.c.printed, piece{stream, b[:size]})
		b = b[size:]
	}
	p.c.change()
	return n, nil
}

// exit ends the container, once.
func (c *container) exit(code int, fromOutside bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != "running" {
		return
	}
	c.status, c.code, c.finished = "exited", code, time.Now()
	if fromOutside {
		close(c.killed)
	}
	c.died()
	c.change()
}

// until waits until ok is true. It returns false when gone is closed.
func (c *container) until(gone <-chan struct{}, ok func() bool) bool {
	for {
		c.mu.Lock()
		done, changed := ok(), c.changed
		c.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-gone:
			return false
		}
	}
}
