package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	clients = 64
	// enough is how many jobs a run has accepted at most: a daemon takes 20,000
	// that have not ended.
	enough  = 18_000
	longest = 3 * time.Second
)

// rate has clients call accept, each over and over, and returns how many calls
// a second there were. accept is given a number of its own.
func rate(ctx context.Context, accept func(ctx context.Context, client, n int) error) (float64, error) {
	var last atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for client := range clients {
		group.Go(func() error {
			for time.Since(start) < longest && ctx.Err() == nil {
				n := last.Add(1)
				if n > enough {
					return nil
				}
				if err := accept(ctx, client, int(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(min(last.Load(), enough)) / time.Since(start).Seconds(), err
}

func imageOf(n int) string { return fmt.Sprintf("registry.test/team/app-%d:v1", n) }

// caller asks a daemon for jobs on a connection that stays open. It writes what
// net/http would, and takes less of the processors that the daemon shares.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(socket string) (*caller, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &caller{conn, bufio.NewReader(conn)}, nil
}

func (c *caller) submit(n int) error {
	body := `{"image":"` + imageOf(n) + `"}`
	_, err := fmt.Fprintf(c.conn, "POST /v1/pulls HTTP/1.1\r\nHost: towline\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(resp.Body)
		return errors.New(resp.Status + ": " + string(text))
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
