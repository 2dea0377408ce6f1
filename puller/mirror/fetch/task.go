package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// task is one request for a piece of a blob. The Fetcher's lock guards it.
type task struct {
	blob   *blob
	ctx    context.Context
	cancel context.CancelCauseFunc
	at, to int64 // what is left; another task may take over the end
	whole  bool  // it reads the blob from its first byte on
	all    bool  // it asked for all of the blob, and so is served by any registry
	fails  int   // of the piece before, without progress
	// partner is a task that brings the same bytes, nil for none. The first that has them
	// ends the other.
	partner *task
	// covered says that another task still brings the same bytes.
	covered bool
	spared  time.Time // until when it is not raced again

	started time.Time
	got     int64 // bytes that have come
	counted int64 // up to where bytes are reported as progress
	window  window
}

var (
	errStalled = errors.New("the connection brings nothing")
	// errLost ends a task whose bytes another one brings.
	errLost = errors.New("another connection is faster")
)

// sinkError is an error of a sink.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

// run starts a task. The lock is held.
func (f *Fetcher) run(t *task, now time.Time) {
	b, w := t.blob, t.blob.work
	t.ctx, t.cancel = context.WithCancelCause(w.ctx)
	t.started = now
	t.counted = max(t.counted, t.at)
	b.active = append(b.active, t)
	w.registry.probe.begin(t)
	w.running++
	w.registry.running++
	f.running++
	w.tasks.Go(func() {
		err := f.transfer(t)
		if f.end(t, err) {
			missing := b.sink.Missing()
			f.mu.Lock()
			b.look(missing)
			f.mu.Unlock()
		}
		f.mu.Lock()
		w.running--
		f.finish(w)
		f.mu.Unlock()
		f.dispatch()
	})
}

// transfer makes the request of a task, and writes what comes into the sink.
func (f *Fetcher) transfer(t *task) error {
	defer t.cancel(nil)
	sink := t.blob.sink
	stall := time.AfterFunc(f.o.Stall, func() { t.cancel(errStalled) })
	defer stall.Stop()
	to := f.begin(t)
	body, err := t.blob.work.Repository.Blob(t.ctx, sink.Digest(), t.at, to, t.blob.size)
	if err != nil {
		return err
	}
	defer body.Close()
	if body.Whole && !f.accept(t) {
		return errLost
	}
	out := &writer{fetcher: f, task: t, at: t.at}
	if t.whole {
		out.skip = true
		out.missing = sink.Missing()
	}
	memory := f.buffers.Get().(*[buffer]byte)
	defer f.buffers.Put(memory)
	filled, flushed := 0, time.Now()
	for {
		stall.Reset(f.o.Stall)
		n, err := body.Read(memory[filled:])
		stall.Stop()
		filled += n
		if f.limiter != nil && n > 0 {
			if err := f.limiter.WaitN(t.ctx, n); err != nil {
				return err
			}
		}
		left := f.note(t, n)
		full := filled == buffer || int64(filled) >= left
		if full || err != nil || time.Since(flushed) >= flushAfter {
			if failed := out.write(memory[:min(int64(filled), left)]); failed != nil {
				return failed
			}
			filled, flushed = 0, time.Now()
		}
		switch {
		case f.left(t) <= 0:
			return nil
		case err != nil:
			return fmt.Errorf("the connection was cut: %w", err)
		}
	}
}

// begin returns up to where a task is to read.
func (f *Fetcher) begin(t *task) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.all = t.at == 0 && t.to == t.blob.size
	return t.to
}

// left returns how many bytes a task is to write still.
func (f *Fetcher) left(t *task) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return t.to - t.at
}

// note notes bytes that have come. It returns how many bytes are left to write.
func (f *Fetcher) note(t *task, n int) int64 {
	now := time.Now()
	f.mu.Lock()
	r := t.blob.work.registry
	f.stats.Bytes += int64(n)
	t.got += int64(n)
	t.blob.work.got += int64(n)
	grown := r.note(t, n, now)
	left := t.to - t.at
	f.mu.Unlock()
	if grown {
		f.dispatch()
	}
	return left
}
