package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"
)

const (
	clients = 64
	// list is how many jobs a prewarm is: itself and its images.
	list = 50
	// enough is how many jobs a run has accepted at most: a daemon takes 20,000
	// that have not ended.
	enough  = 18_000
	longest = 3 * time.Second
)

// rate has clients call accept, each over and over, for so many jobs a call, and
// returns how many jobs a second there were. accept is given the first of as many
// numbers of its own.
func rate(ctx context.Context, jobs int, accept func(ctx context.Context, client, n int) error) (float64, error) {
	var last, accepted atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for client := range clients {
		group.Go(func() error {
			for time.Since(start) < longest && ctx.Err() == nil {
				n := last.Add(int64(jobs))
				if n > enough {
					return nil
				}
				if err := accept(ctx, client, int(n)); err != nil {
					return err
				}
				accepted.Add(int64(jobs))
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(accepted.Load()) / time.Since(start).Seconds(), err
}

func imageOf(n int) string { return "registry.test/team/app-" + strconv.Itoa(n) + ":v1" }

// caller asks a daemon for jobs on a connection that stays open. It writes what
// net/http would and reads no more than it must of the answer: it shares the
// processors with the daemon.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

func dial(socket string) (*caller, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, in: bufio.NewReader(conn)}, nil
}

// submit asks for one pull.
func (c *caller) submit(n int) error {
	if err := c.post("/v1/pulls", `{"image":"`+imageOf(n)+`"}`); err != nil {
		return err
	}
	return c.accepted()
}

// prewarm asks for so many jobs: a prewarm and its images.
func (c *caller) prewarm(n, jobs int) error {
	var body strings.Builder
	for i := range jobs - 1 {
		body.WriteString(`,"` + imageOf(n+i) + `"`)
	}
	if err := c.post("/v1/prewarms", `{"images":[`+body.String()[1:]+`]}`); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusAccepted || bytes.Count(text, []byte(`{"job":"`)) != jobs-1 {
		return fmt.Errorf("%s: %s", answer.Status, text)
	}
	return nil
}

func (c *caller) post(path, body string) error {
	c.out = append(append(append(c.out[:0], "POST "...), path...), " HTTP/1.1\r\nHost: towline\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), body...)
	_, err := c.conn.Write(c.out)
	return err
}

// accepted reads an answer, which must be 202 and have a job with the ID that
// its Location names.
func (c *caller) accepted() error {
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	accepted := bytes.HasPrefix(status, []byte("HTTP/1.1 202 "))
	said := ""
	if !accepted {
		said = string(status)
	}
	var id [ulid.EncodedSize]byte
	size, known := -1, false
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if size, err = strconv.Atoi(string(v)); err != nil {
				return err
			}
		}
		if v, ok := bytes.CutPrefix(line, []byte("Location: /v1/jobs/")); ok {
			known = copy(id[:], v) == len(id)
		}
	}
	if size < 0 || size > c.in.Size() {
		return fmt.Errorf("an answer of %d bytes: %s", size, said)
	}
	body, err := c.in.Peek(size)
	if err != nil {
		return err
	}
	defer c.in.Discard(size)
	switch {
	case !accepted:
		return errors.New(said + string(body))
	case !known || !bytes.HasPrefix(body, []byte(`{"id":"`)) || !bytes.HasPrefix(body[7:], id[:]):
		return fmt.Errorf("no job, or not the one that Location names: %s", body)
	}
	return nil
}
