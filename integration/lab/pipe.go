package lab

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// pipe holds bytes that are on their way from one connection to another. They stay in the
// kernel, and none is copied: a link is to take little of the processors, which a real one
// takes nothing of. One goroutine may read into it, and one write from it.
type pipe struct {
	in, out int
	room    chan struct{} // holds one value when something was taken out
}

// leastPipe is the size of a pipe, in bytes, that every user may have.
const leastPipe = 1 << 20

// newPipe returns a pipe for so many bytes, or for as many as this user may have.
func newPipe(size int) (*pipe, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	p := &pipe{out: ends[0], in: ends[1], room: make(chan struct{}, 1)}
	_, err := unix.FcntlInt(uintptr(p.in), unix.F_SETPIPE_SZ, max(size, leastPipe))
	if errors.Is(err, unix.EPERM) {
		_, err = unix.FcntlInt(uintptr(p.in), unix.F_SETPIPE_SZ, leastPipe)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("the size of a pipe: %w", err)
	}
	return p, nil
}

func (p *pipe) close() {
	unix.Close(p.in)
	unix.Close(p.out)
}

// fill takes bytes of a connection, at most so many, as soon as there are some. It returns 0
// at their end. It waits for room until stop is closed.
func (p *pipe) fill(from *net.TCPConn, most int, stop <-chan struct{}) (n int, err error) {
	conn, err := from.SyscallConn()
	if err != nil {
		return 0, err
	}
	for {
		full := false
		failed := conn.Read(func(fd uintptr) (done bool) {
			n, err = splice(int(fd), p.in, most)
			if !errors.Is(err, unix.EAGAIN) {
				return true
			}
			// Nothing came, or there is no room. The connection can't say which: bytes may
			// have come since.
			full = p.full()
			return full
		})
		if failed != nil {
			return 0, failed
		}
		if !full {
			return n, err
		}
		select {
		case <-p.room:
		case <-stop:
			return 0, net.ErrClosed
		}
	}
}

// drain gives so many bytes to a connection. The pipe must have them. It calls count with
// those that the connection has taken.
func (p *pipe) drain(to *net.TCPConn, length int, count func(n int)) error {
	conn, err := to.SyscallConn()
	if err != nil {
		return err
	}
	for length > 0 {
		var n int
		failed := conn.Write(func(fd uintptr) (done bool) {
			n, err = splice(p.out, int(fd), length)
			return !errors.Is(err, unix.EAGAIN)
		})
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		length -= n
		count(n)
		select {
		case p.room <- struct{}{}:
		default:
		}
	}
	return nil
}

func splice(from, to, most int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(max(n, 0)), err
		}
	}
}

// full reports whether nothing more goes in before something is taken out.
func (p *pipe) full() bool {
	fds := []unix.PollFd{{Fd: int32(p.in), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return n == 0 && err == nil
}
