package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// stop has a reader read nothing more. It still sees that it is cut off.
func (c *readerPool) stop(fd int32, r *reader) {
	r.stopped = true
	c.reads--
	c.stopped++
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: fd}); err != nil {
		c.fail(fd, err)
	}
}

// cut has a stopped reader, which the server has left, read what there is: a
// unix socket keeps it.
func (c *readerPool) cut(fd int32, r *reader) {
	for {
		n, err := unix.Read(int(fd), c.buf)
		if err == unix.EINTR {
			continue
		}
		if n > 0 {
			err = c.take(r, c.buf[:n], time.Time{})
		} else if err == nil {
			err = io.EOF
		}
		if err == nil && r.part != done {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) && err != unix.ECONNRESET {
			c.fail(fd, err)
			return
		}
		break
	}
	c.leave(fd)
	if r.part == done {
		c.report.Fit++
		if err := r.check(c.checker); err != nil {
			c.fault(err)
		}
		return
	}
	c.report.Cut++
	c.report.CutAfter = time.Since(c.began).Seconds()
	if c.task.Resume == "" || c.began.IsZero() {
		c.fault(errors.New("a reader was cut off"))
		return
	}
	again := &reader{reading: r.reading, late: true}
	if err := c.connect(again, fmt.Sprintf(c.task.Resume, r.last), time.Now().Add(time.Minute)); err != nil {
		c.fault(err)
	}
}

// resume waits until the stopped readers are cut off and have gone on to the end.
func (c *readerPool) resume() error {
	limit := time.Now().Add(cutWithin)
	for c.reads+c.stopped > 0 && time.Now().Before(limit) {
		if err := c.poll(time.Second); err != nil {
			return err
		}
	}
	if left := c.reads + c.stopped; left > 0 {
		c.fault(fmt.Errorf("%d stopped readers were not cut off, or did not come to their end", left))
	}
	return nil
}
