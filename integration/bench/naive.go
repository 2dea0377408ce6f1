package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// naiveTask is what a naive handler is to do: pull Image on the engine, and tell
// every reader.
type naiveTask struct{ Engine, Listen, Image string }

// naive tells readers of a pull the way that comes to mind first: a channel and a
// goroutine each, which encodes and flushes every event. What a reader has no room
// for is dropped for it; else it would hold up the engine.
type naive struct {
	mu      sync.Mutex
	readers map[chan puller.Event]struct{}
	ended   bool
}

// naiveRoom is how many events wait for a reader.
const naiveRoom = 64

// naiveRole answers with true when it can be read from.
func naiveRole(orders *bufio.Reader, answers *json.Encoder) error {
	var t naiveTask
	if err := task(orders, &t); err != nil {
		return err
	}
	n := &naive{readers: map[chan puller.Event]struct{}{}}
	l, err := net.Listen("unix", t.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: n}
	go server.Serve(l)
	defer server.Close()
	if err := answers.Encode(true); err != nil {
		return err
	}
	if err := n.pull(t); err != nil {
		return err
	}
	untilEnd(orders)
	return nil
}

// pull reads the engine's lines and turns them into the events that Towline makes.
func (n *naive) pull(t naiveTask) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socketOf(t.Engine))
	}}}
	resp, err := client.Post("http://engine/images/create?fromImage="+url.QueryEscape(t.Image), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var progress pullstream.Progress
	for lines := pullstream.NewDecoder(resp.Body, pullstream.MaxLine); ; {
		m, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if text, failed := m.Failure(); failed {
			return errors.New(text)
		}
		now := time.Now()
		if change := progress.Fold(m, now); change.Layer != nil {
			totals := progress.Totals(now)
			n.tell(puller.Event{Time: now.UTC(), Type: "layer", Job: naiveJob, Layer: change.Layer, Progress: &totals})
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	for r := range n.readers {
		close(r)
	}
	return nil
}

const naiveJob = "01NAIVE0000000000000000000"

func (n *naive) tell(e puller.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for r := range n.readers {
		select {
		case r <- e:
		default:
		}
	}
}

func (n *naive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	events := make(chan puller.Event, naiveRoom)
	n.mu.Lock()
	if n.ended {
		n.mu.Unlock()
		http.Error(w, "it has ended", http.StatusGone)
		return
	}
	n.readers[events] = struct{}{}
	n.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-ndjson")
	write := func(e puller.Event) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", line); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	}
	last := puller.Job{ID: naiveJob, State: puller.StateSucceeded}
	if write(puller.Event{Seq: 1, Time: time.Now().UTC(), Type: "state", Job: naiveJob, State: puller.StateActive}) != nil {
		return
	}
	for e := range events {
		if write(e) != nil {
			return
		}
	}
	write(puller.Event{Seq: 2, Time: time.Now().UTC(), Type: "result", Job: naiveJob, Result: &last})
}
