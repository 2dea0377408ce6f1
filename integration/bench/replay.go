package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// piece is what was written at once, to one reader.
type piece struct {
	After time.Duration // since the first reader was let go
	Bytes []byte
}

// replayTask is what a bare loop over connections is to write to Readers of them:
// first the Head, and then, once ordered to, the pieces in their time.
type replayTask struct {
	Listen  string
	Readers int
	Head    []byte
	Pieces  []piece
}

// replayRole answers with true when it can be read from. It has one goroutine,
// and knows nothing of what it writes: what a server spends above it is its own.
func replayRole(orders *bufio.Reader, answers *json.Encoder) error {
	var t replayTask
	if err := task(orders, &t); err != nil {
		return err
	}
	l, err := net.Listen("unix", t.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := answers.Encode(true); err != nil {
		return err
	}
	request := make([]byte, 4<<10)
	conns := make([]net.Conn, t.Readers)
	for i := range conns {
		if conns[i], err = l.Accept(); err != nil {
			return err
		}
		defer conns[i].Close()
		if _, err := conns[i].Read(request); err != nil {
			return err
		}
		if _, err := conns[i].Write(t.Head); err != nil {
			return err
		}
	}
	if _, err := orders.ReadString('\n'); err != nil {
		return nil // there is nobody to write for
	}
	began := time.Now()
	for _, p := range t.Pieces {
		time.Sleep(p.After - time.Since(began))
		for _, c := range conns {
			if _, err := c.Write(p.Bytes); err != nil {
				return err
			}
		}
	}
	untilEnd(orders)
	return nil
}

// recording keeps what a server writes to a reader.
type recording struct {
	conn net.Conn
	done chan error

	mu     sync.Mutex
	began  time.Time
	head   []byte
	pieces []piece
}

// record begins a request whose answer is kept.
func record(ctx context.Context, socket, request string) (*recording, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		conn.Close()
		return nil, err
	}
	r := &recording{conn: conn, done: make(chan error, 1)}
	go func() { r.done <- r.run() }()
	return r, nil
}

func (r *recording) run() error {
	defer r.conn.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := r.conn.Read(buf)
		if n > 0 {
			r.keep(buf[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *recording) keep(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.IsZero() {
		r.head = append(r.head, p...)
		return
	}
	r.pieces = append(r.pieces, piece{time.Since(r.began), bytes.Clone(p)})
}

// begin is when the pieces begin.
func (r *recording) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = time.Now()
}

// end waits until the answer has come to its end.
func (r *recording) end() error {
	if err := <-r.done; err != nil {
		return err
	}
	if len(r.head) == 0 || len(r.pieces) == 0 {
		return fmt.Errorf("there is no stream to write again: %d bytes, then %d writes", len(r.head), len(r.pieces))
	}
	return nil
}
