package api

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// answer gives each write of an answer a deadline, whatever the answer is: a
// client that reads nothing for writeLimit is disconnected. How long an answer
// as a whole may take is not bounded, since it may last as long as a pull.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController // of ResponseWriter
	taken   bool                     // by Hijack
}

// answerPiece is how many bytes are written under one deadline.
const answerPiece = 64 << 10

// begin returns an answer whose connection is free of the deadline of the one
// before it.
func begin(w http.ResponseWriter) *answer {
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w)}
	a.control.SetWriteDeadline(time.Time{})
	return a
}

func (a *answer) renew() { a.control.SetWriteDeadline(time.Now().Add(writeLimit)) }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (n int, err error) {
	for {
		a.renew()
		m, err := a.ResponseWriter.Write(p[n:min(len(p), n+answerPiece)])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// FlushError is for http.ResponseController.
func (a *answer) FlushError() error {
	a.renew()
	return a.control.Flush()
}

// Hijack implements http.Hijacker. Deadlines are the taker's from then on.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := a.control.Hijack()
	a.taken = err == nil
	return conn, buffers, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// end has a deadline for what net/http writes when the handler has returned.
func (a *answer) end() {
	if !a.taken {
		a.renew()
	}
}
