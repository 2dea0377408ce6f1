package main

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
)

const (
	// logBufferSize is how many bytes of the log wait for a reader at most.
	logBufferSize = 1 << 20
	// flushLimit is how long the end of the daemon waits for the log's reader.
	flushLimit = time.Second
)

// logBuffer writes the log from a goroutine of its own. Write never blocks and
// never fails: while nobody reads the log, lines that do not fit are dropped,
// counted, and told of when it is read again.
type logBuffer struct {
	out     io.Writer
	dropped atomic.Int64 // lines, from the start
	wake    chan struct{}
	done    chan struct{} // closed when the last line was written

	// Of takeStderr:
	release func()
	copied  chan struct{} // closed when nothing more comes

	mu     sync.Mutex
	text   []byte // whole lines
	lost   int    // lines that were dropped and not told of
	note   func(lines int) []byte
	closed bool
}

// newLogBuffer starts a buffer in front of out. Close ends it.
func newLogBuffer(out io.Writer) *logBuffer {
	b := &logBuffer{
		out:  out,
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
		note: func(lines int) []byte { return fmt.Appendf(nil, "towline: "+linesDropped+"\n", lines) },
	}
	go b.flush()
	return b
}

const linesDropped = "%d lines of the log were dropped: they could not be written in time"

// Write takes lines. It returns no error.
func (b *logBuffer) Write(lines []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.text)+len(lines) > logBufferSize {
		b.drop(lines)
		return len(lines), nil
	}
	b.text = append(b.text, lines...)
	b.poke()
	return len(lines), nil
}

func (b *logBuffer) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// drop counts lines that are not written. b.mu is held.
func (b *logBuffer) drop(lines []byte) {
	n := bytes.Count(lines, []byte("\n"))
	b.lost += n
	b.dropped.Add(int64(n))
}

// flush writes until Close.
func (b *logBuffer) flush() {
	defer close(b.done)
	var spare []byte
	for {
		b.mu.Lock()
		text, lost, note, closed := b.text, b.lost, b.note, b.closed
		if len(text) > 0 {
			b.text, b.lost = spare[:0], 0
		}
		b.mu.Unlock()
		switch {
		case len(text) > 0:
			b.write(text, lost, note)
			spare = text
		case closed:
			return
		default:
			<-b.wake
		}
	}
}

// write writes lines, and then how many were dropped after them. After an error
// that is told with the next line.
func (b *logBuffer) write(text []byte, lost int, note func(int) []byte) {
	n, err := b.out.Write(text)
	if err == nil && lost > 0 {
		_, err = b.out.Write(note(lost))
	}
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost += lost
	b.drop(text[n:])
}

// metric counts the lines that were dropped.
func (b *logBuffer) metric() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "towline_log_lines_dropped_total", Help: "Lines of the log that were dropped, because nobody read it or it could not be written.",
	}, func() float64 { return float64(b.dropped.Load()) })
}

// inFormOf has dropped lines told of as an entry of the logger.
func (b *logBuffer) inFormOf(logger *logrus.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note = func(lines int) []byte {
		e := logrus.NewEntry(logger).WithTime(time.Now())
		e.Level, e.Message = logrus.WarnLevel, fmt.Sprintf(linesDropped, lines)
		line, _ := logger.Formatter.Format(e)
		return line
	}
}

// Close writes what is left, for as long as flushLimit. Later lines are dropped.
func (b *logBuffer) Close() {
	limit := time.NewTimer(flushLimit)
	defer limit.Stop()
	if b.release != nil {
		b.release()
		select {
		case <-b.copied:
		case <-limit.C: // a helper goes on
		}
	}
	b.mu.Lock()
	b.closed = true
	b.poke()
	b.mu.Unlock()
	select {
	case <-b.done:
	case <-limit.C:
	}
}

// tell prints why the daemon ends, if it is an error, and returns it as told.
func (b *logBuffer) tell(err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintln(b, "towline: "+printable(err.Error()))
	return told{err}
}

// takeStderr has all that libraries and credential helpers print to stderr come
// into the buffer, line by line, until Close. It is for the whole process.
func (b *logBuffer) takeStderr() error {
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
			fmt.Fprintln(b, printable(string(line)))
		}
	}()
	return nil
}
