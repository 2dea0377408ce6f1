package containers

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

const (
	// chunk is the most bytes in one call of each.
	chunk = 64 << 10
	// idleLimit is how long the stream of an exited container may be idle before it is
	// closed. A process that was left behind can hold it open.
	idleLimit = 5 * time.Second
	// earlyClose is the longest time from a stream's end to the exit, beyond which the
	// stream may have been cut.
	earlyClose = time.Second
)

// output passes on what a container prints. Only one goroutine may use it at a time.
type output struct {
	tty            bool
	each           func(puller.Output, []byte)
	stdout, stderr int64 // bytes that each was called with
}

// read passes a stream on to its end, without the first bytes of stdout and stderr.
func (o *output) read(r io.Reader, skipStdout, skipStderr int64) error {
	stdout := &streamWriter{o.each, puller.Stdout, &o.stdout, skipStdout}
	if o.tty {
		_, err := io.CopyBuffer(stdout, r, make([]byte, 32<<10))
		return err
	}
	return demultiplex(r, stdout, &streamWriter{o.each, puller.Stderr, &o.stderr, skipStderr})
}

// streamWriter passes on stdout or stderr.
type streamWriter struct {
	each   func(puller.Output, []byte)
	name   puller.Output
	passed *int64
	skip   int64
}

func (w *streamWriter) Write(p []byte) (int, error) {
	n := len(p)
	skipped := min(w.skip, int64(n))
	w.skip -= skipped
	for p = p[skipped:]; len(p) > 0; {
		piece := p[:min(len(p), chunk)]
		w.each(w.name, piece)
		*w.passed += int64(len(piece))
		p = p[len(piece):]
	}
	return n, nil
}

// logs opens the container's log, from its first byte.
func logs(ctx context.Context, sdk *client.Client, id string, follow bool) (io.ReadCloser, error) {
	return sdk.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: "all"})
}

// remainder passes on the part of an exited container's log that was not passed on yet.
func remainder(ctx context.Context, sdk *client.Client, id string, out *output) error {
	ctx, cancel := transport.WithLimit(ctx, transport.WorkLimit)
	defer cancel()
	body, err := logs(ctx, sdk, id, false)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := out.read(body, out.stdout, out.stderr); err != nil {
		return &classify.StreamError{Err: err}
	}
	return nil
}

// watch passes a container's stream on until the container has exited and the stream has
// ended, in any order, and closes it. whole says that the stream was complete. The error
// is the wait's.
func watch(ctx context.Context, sdk *client.Client, id string, body io.ReadCloser, out *output) (whole bool, err error) {
	q := &idleCloser{body: body}
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

// idleCloser closes a stream that is idle for idleLimit after its container has exited.
// The time between two reads does not count.
type idleCloser struct {
	body io.ReadCloser

	mu      sync.Mutex
	reading bool
	ended   time.Time // zero until then
	over    bool      // the container has exited
	timer   *time.Timer
}

var errIdle = errors.New("the stream was idle after the container's exit and did not end")

func (q *idleCloser) Read(p []byte) (int, error) {
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
		return n, errIdle // the timer has closed it; bytes that were read count
	}
	return n, err
}

// exited notes the container's exit. It reports whether the stream had ended well before:
// the program may have closed its output, or a proxy may have cut the stream.
func (q *idleCloser) exited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	if q.reading {
		q.arm()
	}
	return !q.ended.IsZero() && time.Since(q.ended) > earlyClose
}

func (q *idleCloser) arm() {
	if q.over {
		q.timer = time.AfterFunc(idleLimit, func() { q.body.Close() })
	}
}
