//go:build unix

package api

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a connection that was taken out of the runtime's poller, for one
// who only writes. In it, it would wake a thread each time its reader reads,
// since there is room again: that costs a quarter of what the write does. It
// goes back while a write has to wait.
type socket struct {
	net.Conn   // closed: for its addresses
	descriptor int
	until      time.Time
	release    func()
}

// quiet returns a connection as a socket, and its descriptor, for tryWrite. Where
// it is none itself, as over TLS, it comes back as it is, with -1.
func quiet(conn net.Conn) (net.Conn, int) {
	inner, release := conn, func() {}
	// Whoever counts connections is told when this one is closed.
	if c, ok := conn.(interface{ Detach() (net.Conn, func()) }); ok {
		inner, release = c.Detach()
	}
	whole, ok := inner.(syscall.Conn)
	if !ok {
		return conn, -1
	}
	raw, err := whole.SyscallConn()
	if err != nil {
		return conn, -1
	}
	descriptor := -1
	raw.Control(func(fd uintptr) { descriptor = duplicate(int(fd)) })
	if descriptor < 0 {
		return conn, -1
	}
	inner.Close() // one of two descriptors: the connection stays
	return &socket{Conn: inner, descriptor: descriptor, release: release}, descriptor
}

func duplicate(descriptor int) int {
	d, err := unix.FcntlInt(uintptr(descriptor), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return d
}

// Write writes all of p, or what it can before the deadline.
func (s *socket) Write(p []byte) (int, error) {
	n, err := tryWrite(s.descriptor, p)
	if err != nil || n == len(p) {
		return n, err
	}
	d := duplicate(s.descriptor)
	if d < 0 {
		return n, os.NewSyscallError("fcntl", syscall.EMFILE)
	}
	f := os.NewFile(uintptr(d), "reader") // in the poller, as it does not block
	defer f.Close()
	if err := f.SetWriteDeadline(s.until); err != nil {
		return n, err
	}
	m, err := f.Write(p[n:])
	return n + m, err
}

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.until = t
	return nil
}

// Close implements net.Conn.
func (s *socket) Close() error {
	defer s.release()
	return unix.Close(s.descriptor)
}

// tryWrite is for stream.Outlet. Go has its sockets not block.
func tryWrite(descriptor int, p []byte) (int, error) {
	for {
		n, err := syscall.Write(descriptor, p)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			err = nil
		}
		return max(n, 0), err
	}
}
