package connections

import (
	"bufio"
	"cmp"
	"net"
	"net/http"
	"time"
)

// Answer sets a deadline for each write of an answer. A client that reads nothing for
// writeLimit is disconnected. An answer as a whole has no deadline, because it may last
// as long as a pull.
type Answer struct {
	http.ResponseWriter
	control *http.ResponseController // of ResponseWriter
	taken   bool                     // by Hijack
	status  int                      // 0 before the head of the answer
}

// answerPiece is how many bytes are written under one deadline.
const answerPiece = 64 << 10

// Begin returns an answer, and removes the deadline of the one before it on the
// connection.
func Begin(w http.ResponseWriter) *Answer {
	a := &Answer{ResponseWriter: w, control: http.NewResponseController(w)}
	a.control.SetWriteDeadline(time.Time{})
	return a
}

func (a *Answer) renew() { a.control.SetWriteDeadline(time.Now().Add(writeLimit)) }

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Status returns the status of the answer. An answer that was not begun, or whose
// connection was taken over, is a 200.
func (a *Answer) Status() int { return cmp.Or(a.status, http.StatusOK) }

// Write implements http.ResponseWriter.
func (a *Answer) Write(p []byte) (n int, err error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	for {
		a.renew()
		m, err := a.ResponseWriter.Write(p[n:min(len(p), n+answerPiece)])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// FlushError is for http.ResponseController.
func (a *Answer) FlushError() error {
	a.renew()
	return a.control.Flush()
}

// Hijack implements http.Hijacker. From then on, the new owner sets deadlines.
func (a *Answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := a.control.Hijack()
	a.taken = err == nil
	return conn, buffers, err
}

// Hijacked reports whether the connection was taken over from net/http.
func (a *Answer) Hijacked() bool { return a.taken }

// Unwrap is for http.ResponseController.
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// End sets a deadline for what net/http writes after the handler.
func (a *Answer) End() {
	if !a.taken {
		a.renew()
	}
}
