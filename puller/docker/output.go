package docker

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

const (
	// chunk bounds what each is called with at once, in bytes.
	chunk = 64 << 10
	// quietLimit is how long a stream of a container that has exited may bring
	// nothing before it is given up: something may hold it open.
	quietLimit = 5 * time.Second
	// earlyEnd is by how much a stream may end before its container's exit is
	// known.
	earlyEnd = time.Second
)

// output is what a container prints. It is read by one goroutine at a time.
type output struct {
	tty            bool
	each           func(puller.Output, []byte)
	stdout, stderr int64 // bytes that each was called with
}

// read passes a stream on to its end, without the first skipped bytes of each
// of its halves.
func (o *output) read(r io.Reader, skipStdout, skipStderr int64) error {
	stdout := &half{o.each, puller.Stdout, &o.stdout, skipStdout}
	if o.tty {
		_, err := io.CopyBuffer(stdout, r, make([]byte, 32<<10))
		return err
	}
	return splitFrames(r, stdout, &half{o.each, puller.Stderr, &o.stderr, skipStderr})
}

// half is one of the streams.
type half struct {
	each func(puller.Output, []byte)
	name puller.Output
	seen *int64
	skip int64
}

func (h *half) Write(p []byte) (int, error) {
	n := len(p)
	skipped := min(h.skip, int64(n))
	h.skip -= skipped
	for p = p[skipped:]; len(p) > 0; {
		piece := p[:min(len(p), chunk)]
		h.each(h.name, piece)
		*h.seen += int64(len(piece))
		p = p[len(piece):]
	}
	return n, nil
}

// logs opens what the engine has kept of a container's output, from its first
// byte.
func logs(ctx context.Context, sdk *client.Client, id string, follow bool) (io.ReadCloser, error) {
	return sdk.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: "all"})
}

// rest passes on what the engine has kept of a container that has exited,
// beyond what was passed on before.
func rest(ctx context.Context, sdk *client.Client, id string, out *output) error {
	ctx, cancel := limited(ctx, workLimit)
	defer cancel()
	body, err := logs(ctx, sdk, id, false)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := out.read(body, out.stdout, out.stderr); err != nil {
		return &streamError{err}
	}
	return nil
}

// watch passes a container's stream on until the container has exited and the
// stream has ended, in any order, and closes it. It reports whether it knows
// that it has seen the whole of it. The error is that of the wait.
func watch(ctx context.Context, sdk *client.Client, id string, body io.ReadCloser, out *output) (whole bool, err error) {
	q := &quiet{body: body}
	done := make(chan error, 1)
	go func() { done <- out.read(q, 0, 0) }()
	err = wait(ctx, sdk, id)
	early := false
	if err != nil {
		body.Close()
	} else {
		early = q.exited()
	}
	failed := <-done
	body.Close()
	return failed == nil && !early, err
}

// quiet is a stream that is closed when it brings nothing for quietLimit once
// its container has exited. What its reader does between two reads takes the
// time it takes.
type quiet struct {
	body io.ReadCloser

	mu      sync.Mutex
	reading bool
	ended   time.Time // zero until then
	over    bool      // the container has exited
	timer   *time.Timer
}

var errQuiet = errors.New("the stream brought nothing more, and did not end")

func (q *quiet) Read(p []byte) (int, error) {
	q.mu.Lock()
	q.reading = true
	q.arm()
	q.mu.Unlock()
	n, err := q.body.Read(p)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reading = false
	if err != nil {
		q.ended = time.Now()
	}
	if q.timer != nil && !q.timer.Stop() {
		return n, errQuiet // closed; what was read before is passed on
	}
	return n, err
}

// exited says that the container has, and reports whether the stream had ended
// well before that: a program may close its output, but something between may
// have closed it as well.
func (q *quiet) exited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	if q.reading {
		q.arm()
	}
	return !q.ended.IsZero() && time.Since(q.ended) > earlyEnd
}

func (q *quiet) arm() {
	if q.over {
		q.timer = time.AfterFunc(quietLimit, func() { q.body.Close() })
	}
}
