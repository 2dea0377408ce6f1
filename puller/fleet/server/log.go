package server

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"
)

// Lines of the NATS server's log, a second and at once: anybody who reaches the port can
// cause them.
const (
	linesPerSecond = 1
	linesAtOnce    = 20
)

// natsLog is the log of a NATS server.
type natsLog struct {
	log   logrus.FieldLogger
	lines *rate.Limiter

	mu      sync.Mutex
	fault   error // why the server did not start
	unkept  error // why a bucket can't be written to
	dropped int
}

func newNATSLog(log logrus.FieldLogger) *natsLog {
	return &natsLog{log: log.WithField("from", "nats"), lines: rate.NewLimiter(linesPerSecond, linesAtOnce)}
}

// listenFault says that the server can't listen at its address.
type listenFault struct{ text string }

func (f *listenFault) Error() string { return f.text }

// fatal returns why the server did not start, nil if it did.
func (l *natsLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// Fatalf implements server.Logger. The server calls it where a start fails, and goes on.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		return
	}
	text := fmt.Sprintf(format, v...)
	if rest, ok := strings.CutPrefix(text, "Error listening on port: "); ok {
		l.fault = &listenFault{rest}
		return
	}
	l.fault = errors.New(text)
}

// writeFault begins what NATS logs of a bucket that takes nothing any more, until the server
// is started again. It has no other way to say so: who publishes gets no answer.
const writeFault = "Critical write error: "

// Errorf implements server.Logger. Most of these are faults of clients.
func (l *natsLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if _, why, ok := strings.Cut(text, writeFault); ok && strings.HasPrefix(text, "Filestore ") {
		l.mu.Lock()
		l.unkept = errors.New(why)
		l.mu.Unlock()
	}
	l.warn(text)
}

// notWritten returns why a bucket can't be written to, nil if all can.
func (l *natsLog) notWritten() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unkept
}

// Warnf implements server.Logger.
func (l *natsLog) Warnf(format string, v ...any) { l.warn(fmt.Sprintf(format, v...)) }

func (l *natsLog) warn(text string) {
	l.mu.Lock()
	allowed, dropped := l.lines.Allow(), l.dropped
	if allowed {
		l.dropped = 0
	} else {
		l.dropped++
	}
	l.mu.Unlock()
	if !allowed {
		return
	}
	log := l.log
	if dropped > 0 {
		log = log.WithField("lines_dropped_before", dropped)
	}
	log.Warn(text)
}

// Noticef implements server.Logger.
func (l *natsLog) Noticef(format string, v ...any) { l.log.Debugf(format, v...) }

// Debugf implements server.Logger. The server does not call it.
func (*natsLog) Debugf(string, ...any) {}

// Tracef implements server.Logger. The server does not call it.
func (*natsLog) Tracef(string, ...any) {}
