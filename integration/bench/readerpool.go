package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readerPool is many readers, on one thread: it shares the processors with the
// server that is measured.
type readerPool struct {
	task    readersTask
	epoll   int
	readers map[int32]*reader
	checker *checker
	buf     []byte
	known   map[string]*readInfo
	report  report

	waiting, reads, stopped int // readers that have got nothing yet, that read, that have stopped
	began                   time.Time
	all, states             delays
}

// reader is one connection.
type reader struct {
	answer
	reading
	begun          bool // it got something, once its job was no longer queued
	stops, stopped bool // reading
	late           bool // it goes on where it was cut off
}

// attach connects everyone, and waits until each has got something.
func (c *readerPool) attach() (err error) {
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create", err)
	}
	limit := time.Now().Add(c.task.Attach)
	for i := range c.task.Count + c.task.Stopped {
		if time.Now().After(limit) {
			break
		}
		// Those that stop are among the others.
		stops := (i+1)*c.task.Stopped/(c.task.Count+c.task.Stopped) > i*c.task.Stopped/(c.task.Count+c.task.Stopped)
		if err := c.connect(&reader{stops: stops, reading: reading{lossy: c.task.Lossy}}, c.task.Request, limit); err != nil {
			return fmt.Errorf("reader %d: %w", i, err)
		}
		// The engine has one pull at a time fetch a manifest that it does not have,
		// and the others ask again and again whether it is their turn.
		for i == 0 && c.task.Docker && c.waiting > 0 && time.Now().Before(limit) {
			if err := c.poll(100 * time.Millisecond); err != nil {
				return err
			}
		}
		// A server that accepts slowly is slow with what it tells, too.
		if i%64 == 63 {
			if err := c.poll(0); err != nil {
				return err
			}
		}
	}
	for c.waiting > 0 && time.Now().Before(limit) {
		if err := c.poll(100 * time.Millisecond); err != nil {
			return err
		}
	}
	for fd, r := range c.readers {
		if !r.begun {
			c.leave(fd)
		}
	}
	return nil
}

func (c *readerPool) connect(r *reader, request string, limit time.Time) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// It bounds connect too, which waits while as many wait to be accepted as may.
	patience := unix.NsecToTimeval(max(time.Until(limit), time.Millisecond).Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience)
	if err == nil {
		for again := true; again; again = err == unix.EINTR { // a unix socket's connect begins anew
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: c.task.Socket})
		}
	}
	if err == unix.EAGAIN {
		return unix.Close(fd) // one reader less
	}
	if err == nil {
		_, err = unix.Write(fd, []byte(request))
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	if err != nil {
		unix.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	c.readers[int32(fd)] = r
	c.reads++
	c.waiting++
	return nil
}

// poll waits for what comes to any reader, and takes it.
func (c *readerPool) poll(wait time.Duration) error {
	var events [maxEvents]unix.EpollEvent
	n, err := unix.EpollWait(c.epoll, events[:], int(wait.Milliseconds()))
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, e := range events[:n] {
		if r := c.readers[e.Fd]; r.stopped {
			c.cut(e.Fd, r)
		} else {
			c.read(e.Fd, r)
		}
	}
	return nil
}

// read takes what has come to one reader, and reports whether there was something.
func (c *readerPool) read(fd int32, r *reader) bool {
	n, err := unix.Read(int(fd), c.buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return false
	}
	if n <= 0 {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		c.fail(fd, err)
		return false
	}
	err = c.take(r, c.buf[:n], time.Now())
	switch {
	case err != nil:
		c.fail(fd, err)
		return false
	case r.part == done:
		if err := r.check(c.checker); err != nil {
			c.fault(err)
		}
		c.leave(fd)
		return false
	case r.stops && r.begun && !r.stopped:
		c.stop(fd, r)
	}
	return true
}

// readInfo is what was read at once, in whole chunks. Most readers read the same
// bytes at once, which are taken apart for one of them, and compared for the
// others.
type readInfo struct {
	lines  []*lineInfo
	chunks int64
}

// maxReads bounds those that are kept to be found again.
const maxReads = 2000

// take takes what one reader has read.
func (c *readerPool) take(r *reader, p []byte, now time.Time) error {
	begins := r.between()
	if h := c.known[string(p)]; h != nil && begins {
		r.chunks += h.chunks
		c.report.Chunks += h.chunks
		for _, t := range h.lines {
			if err := c.add(r, t, now); err != nil {
				return err
			}
		}
		return nil
	}
	before := r.chunks
	var all []*lineInfo
	err := r.take(p, func(line []byte) error {
		t, err := c.checker.parse(line)
		if err != nil {
			return err
		}
		all = append(all, t)
		return c.add(r, t, now)
	})
	c.report.Chunks += r.chunks - before
	if err == nil && begins && r.between() {
		if len(c.known) == maxReads {
			clear(c.known)
		}
		c.known[string(p)] = &readInfo{all, r.chunks - before}
	}
	return err
}

func (c *readerPool) add(r *reader, t *lineInfo, now time.Time) error {
	if !r.begun && !t.queued {
		r.begun = true
		c.waiting--
	}
	c.report.Lines++
	// What is older is the state that a reader begins with.
	if !c.began.IsZero() && !r.stops && !r.late && t.at.After(c.began) {
		c.all.add(now.Sub(t.at))
		if t.state {
			c.states.add(now.Sub(t.at))
		}
	}
	return r.reading.add(t)
}

func (c *readerPool) fail(fd int32, err error) {
	c.fault(err)
	c.leave(fd)
}

func (c *readerPool) fault(err error) {
	if c.report.Faults++; c.report.Faults == 1 {
		c.report.Fault = err.Error()
	}
}

func (c *readerPool) leave(fd int32) {
	r := c.readers[fd]
	if !r.begun {
		c.waiting--
	}
	if r.stopped {
		c.stopped--
	} else {
		c.reads--
	}
	delete(c.readers, fd)
	unix.Close(int(fd))
}

// socketOf returns the path in a "unix://" address.
func socketOf(host string) string { return strings.TrimPrefix(host, "unix://") }
