package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/towline/towline/integration/lab"
)

// readersTask is what a process with many readers of one server is to do.
type readersTask struct {
	Socket  string
	Request string // as it is written to the connection
	Count   int
	// Stopped is how many there are besides that stop reading once they have got
	// something. When the others have come to their end, and these are cut off, they
	// read what there is, and go on by Resume, in which %d is the last number.
	Stopped int
	Resume  string
	Docker  bool // lines are Docker's own
	Lossy   bool // the server drops events
	// Attach is how long they have: a reader does not count that gets nothing
	// within it, or no more than that its job is queued.
	Attach time.Duration
}

// attached answers when every reader has got something; began, when the order to
// count has been taken.
type attached struct{ Readers, Stopped int }

// report is of what came after the order to count.
type report struct {
	Lines, Chunks int64
	Seconds       float64
	Delays        int64 // how many
	P50, P99, Max float64
	StateP99      float64
	Faults        int
	Fault         string // the first of them
	CPU           float64
	// Of the readers that stopped: how many were cut off, how long after the order
	// the last of them was, and how many had room for all in their socket.
	Cut, Fit int
	CutAfter float64
}

const (
	maxEvents = 512
	// cutWithin is how long stopped readers wait to be cut off.
	cutWithin = 90 * time.Second
)

// readersRole runs a readerPool. Orders: "count", and then nothing.
func readersRole(orders *bufio.Reader, answers *json.Encoder) error {
	var t readersTask
	if err := task(orders, &t); err != nil {
		return err
	}
	c := &readerPool{task: t, readers: map[int32]*reader{}, checker: newChecker(t.Docker), buf: make([]byte, 256<<10), known: map[string]*readInfo{}}
	if err := c.attach(); err != nil {
		return err
	}
	if err := answers.Encode(attached{c.reads, c.stopped}); err != nil {
		return err
	}
	count, err := c.follow(orders)
	if err != nil {
		return err
	}
	if !count {
		return nil
	}
	if err := answers.Encode(attached{c.reads, c.stopped}); err != nil {
		return err
	}
	for c.reads > 0 {
		if err := c.poll(time.Second); err != nil {
			return err
		}
	}
	c.report.Seconds = time.Since(c.began).Seconds()
	used, err := lab.CPU(os.Getpid())
	if err != nil {
		return err
	}
	c.report.CPU = used.Seconds()
	if err := c.resume(); err != nil {
		return err
	}
	c.report.Delays, c.report.P50, c.report.P99, c.report.Max = c.all.n, c.all.quantile(0.5), c.all.quantile(0.99), milliseconds(c.all.most)
	c.report.StateP99 = c.states.quantile(0.99)
	return answers.Encode(c.report)
}

// follow reads on until it is ordered to count, and is false where the orders end.
func (c *readerPool) follow(orders *bufio.Reader) (bool, error) {
	ordered := make(chan error, 1)
	go func() {
		_, err := orders.ReadString('\n')
		ordered <- err
		untilEnd(orders)
		os.Exit(0) // nobody waits for the report
	}()
	for {
		select {
		case err := <-ordered:
			c.began = time.Now()
			c.report = report{Faults: c.report.Faults, Fault: c.report.Fault}
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			return true, err
		default:
		}
		if err := c.poll(10 * time.Millisecond); err != nil {
			return false, err
		}
	}
}
