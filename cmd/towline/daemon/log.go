package daemon

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/cmd/towline/render"
)

const (
	// logSize limits the bytes of the log that wait for its reader.
	logSize = 1 << 20
	// flushLimit is how long Close waits for the reader of the log.
	flushLimit = time.Second
)

// Log writes the daemon's log from its own goroutine, so that a reader that stops or
// goes does not stop the daemon. Write never blocks and never fails. Lines that do
// not fit are dropped and counted; the log says so when it is read again.
type Log struct {
	out     io.Writer
	dropped atomic.Int64  // lines since the start
	wake    chan struct{} // has a value when there is something to write
	done    chan struct{} // closed when the last line was written

	// Set by CaptureStderr:
	release func()        // gives stderr back
	copied  chan struct{} // closed when nothing more comes

	mu         sync.Mutex
	text       []byte // whole lines
	unreported int    // dropped lines that the log does not mention yet
	report     func(dropped int) []byte
	closed     bool
}

// NewLog starts a log in front of out. Close ends it.
func NewLog(out io.Writer) *Log {
	b := &Log{
		out:    out,
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		report: func(lines int) []byte { return fmt.Appendf(nil, "towline: "+droppedReport+"\n", lines) },
	}
	go b.writeAll()
	return b
}

const droppedReport = "%d lines of the log were dropped: they could not be written in time"

// Write takes lines. It returns no error.
func (b *Log) Write(lines []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.text)+len(lines) > logSize {
		b.drop(lines)
		return len(lines), nil
	}
	b.text = append(b.text, lines...)
	b.signal()
	return len(lines), nil
}

// signal wakes writeAll.
func (b *Log) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// drop counts lines that are not written. The caller holds b.mu.
func (b *Log) drop(lines []byte) {
	n := bytes.Count(lines, []byte("\n"))
	b.unreported += n
	b.dropped.Add(int64(n))
}

// writeAll writes lines until Close.
func (b *Log) writeAll() {
	defer close(b.done)
	var spare []byte
	for {
		b.mu.Lock()
		text, unreported, report, closed := b.text, b.unreported, b.report, b.closed
		if len(text) > 0 {
			b.text, b.unreported = spare[:0], 0
		}
		b.mu.Unlock()
		switch {
		case len(text) > 0:
			b.write(text, unreported, report)
			spare = text
		case closed:
			return
		default:
			<-b.wake
		}
	}
}

// write writes lines, and then how many were dropped after them. After an error
// the next write reports them.
func (b *Log) write(text []byte, unreported int, report func(int) []byte) {
	n, err := b.out.Write(text)
	if err == nil && unreported > 0 {
		_, err = b.out.Write(report(unreported))
	}
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unreported += unreported
	b.drop(text[n:])
}

// metric returns the counter of dropped lines.
func (b *Log) metric() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "towline_log_lines_dropped_total", Help: "Log lines dropped because the log was not read or could not be written.",
	}, func() float64 { return float64(b.dropped.Load()) })
}

// reportWith reports dropped lines as an entry of the logger.
func (b *Log) reportWith(logger *logrus.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report = func(lines int) []byte {
		e := logrus.NewEntry(logger).WithTime(time.Now())
		e.Level, e.Message = logrus.WarnLevel, fmt.Sprintf(droppedReport, lines)
		line, _ := logger.Formatter.Format(e)
		return line
	}
}

// Close writes what is left, for at most flushLimit. Later lines are dropped.
func (b *Log) Close() {
	limit := time.NewTimer(flushLimit)
	defer limit.Stop()
	if b.release != nil {
		b.release()
		select {
		case <-b.copied:
		case <-limit.C: // a credential helper still runs
		}
	}
	b.mu.Lock()
	b.closed = true
	b.signal()
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-limit.C:
	}
}

// CaptureStderr sends what libraries and credential helpers print to stderr
// through the buffer, line by line, until Close. It affects the whole process.
func (b *Log) CaptureStderr() error {
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	was := os.Stderr
	use := func(f *os.File) {
		os.Stderr = f
		log.SetOutput(f)
		logrus.SetOutput(f)
	}
	use(to)
	b.release = func() { use(was); to.Close() }
	b.copied = make(chan struct{})
	go func() {
		defer close(b.copied)
		defer from.Close()
		in := bufio.NewReader(from)
		for {
			line, _, err := in.ReadLine()
			if err != nil {
				return
			}
			fmt.Fprintln(b, render.SafeText(string(line)))
		}
	}()
	return nil
}
