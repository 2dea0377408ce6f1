package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/towline/towline/puller"
)

// task is one request for a piece of a blob. The Fetcher's lock guards it.
type task struct {
	blob   *blob
	ctx    context.Context
	cancel context.CancelCauseFunc
	at, to int64 // what is left; another task may take over the end
	whole  bool  // it reads the blob from its first byte on
	fails  int   // of the piece before, without progress
	race   *race // nil for none
	// covered says that another task still brings the same bytes.
	covered bool

	started time.Time
	got     int64 // bytes that have come
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
	b.active = append(b.active, t)
	w.running++
	w.registry.running++
	f.running++
	w.tasks.Go(func() {
		err := f.transfer(t)
		if f.end(t, err) {
			missing := b.sink.Missing()
			f.mu.Lock()
			f.look(b, missing)
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
	to := t.end(f)
	body, err := t.blob.work.Repository.Blob(t.ctx, sink.Digest(), t.at, to, t.blob.size)
	if err != nil {
		return err
	}
	defer body.Close()
	if body.Whole && to-t.at < t.blob.size && !f.accept(t) {
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

// end returns up to where a task is to read.
func (t *task) end(f *Fetcher) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return t.to
}

// left returns how many bytes a task is to write still.
func (f *Fetcher) left(t *task) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return t.to - t.at
}

// accept reports whether a task goes on that asked for a part and has got the whole blob: the
// registry serves no ranges, and this task then brings all of the blob.
func (f *Fetcher) accept(t *task) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := t.blob
	if b.whole {
		return false
	}
	f.oneStream(b)
	t.whole, t.at, t.to = true, 0, b.size
	b.todo = nil
	for _, other := range b.active {
		if other != t {
			other.cancel(errLost)
		}
	}
	return true
}

// oneStream notes that a blob and those of its registry are fetched by one request each.
func (f *Fetcher) oneStream(b *blob) {
	b.whole = true
	b.work.registry.whole = time.Now().Add(wholeFor)
}

// note notes bytes that have come. It returns how many bytes are left to write.
func (f *Fetcher) note(t *task, n int) int64 {
	now := time.Now()
	f.mu.Lock()
	r := t.blob.work.registry
	f.stats.Bytes += int64(n)
	t.got += int64(n)
	grown := r.note(t, n, now)
	left := t.to - t.at
	f.mu.Unlock()
	if grown {
		f.dispatch()
	}
	return left
}

// writer writes what a task reads into the sink.
type writer struct {
	fetcher *Fetcher
	task    *task
	at      int64
	skip    bool    // write only what is missing
	missing []Range // from at on
}

func (w *writer) write(p []byte) error {
	if w.task.ctx.Err() != nil {
		return context.Cause(w.task.ctx) // the sink may have begun anew
	}
	written := 0
	if !w.skip {
		if len(p) > 0 {
			if _, err := w.task.blob.sink.WriteAt(p, w.at); err != nil {
				return sinkError{err}
			}
		}
		written = len(p)
	}
	end := w.at + int64(len(p))
	for w.skip && len(w.missing) > 0 && w.missing[0].From < end {
		r := &w.missing[0]
		from, to := max(r.From, w.at), min(r.To, end)
		if from < to {
			if _, err := w.task.blob.sink.WriteAt(p[from-w.at:to-w.at], from); err != nil {
				return sinkError{err}
			}
			written += int(to - from)
		}
		if r.To > end {
			break
		}
		w.missing = w.missing[1:]
	}
	w.at = end
	f := w.fetcher
	f.mu.Lock()
	w.task.at = end
	written = w.task.race.count(written, end)
	f.mu.Unlock()
	if progress := w.task.blob.work.Progress; progress != nil && written > 0 {
		progress(written)
	}
	return nil
}

const (
	// maxFails is how often a piece is tried without progress.
	maxFails = 5
	// leastProgress is how many bytes a request must bring to be progress.
	leastProgress = 64 << 10
	// firstBackoff is the pause after the first failure. It doubles.
	firstBackoff = 250 * time.Millisecond
)

// end takes a task out, and decides what becomes of what it has not brought. It reports
// whether the blob is to be looked at.
func (f *Fetcher) end(t *task, err error) bool {
	now := time.Now()
	f.mu.Lock()
	b, w := t.blob, t.blob.work
	b.active = slices.DeleteFunc(b.active, func(other *task) bool { return other == t })
	w.registry.running--
	f.running--
	partner := t.race.leave(t)
	t.covered = partner != nil
	cause := context.Cause(t.ctx)
	var sink sinkError
	var cooled time.Duration
	switch {
	case w.err != nil:
	case w.ctx.Err() != nil:
		f.fail(w, context.Cause(w.ctx))
	case err == nil:
		if partner != nil {
			partner.cancel(errLost)
		}
	case errors.As(err, &sink):
		f.sinkFailed(b, sink.error)
	case errors.Is(cause, errLost), errors.Is(err, errLost):
	case errors.Is(err, puller.ErrNoRanges):
		f.noRanges(t, err)
	case errors.Is(err, puller.ErrBusy):
		cooled = f.busy(t, err, now)
	default:
		if errors.Is(cause, errStalled) {
			err = puller.Errorf(puller.ErrStalled, "%s: nothing came for %s", b.sink.Digest(), f.o.Stall)
		}
		f.failed(t, err, now)
	}
	again := w.err == nil && len(b.active) == 0 && (len(b.todo) == 0 || b.refill)
	f.mu.Unlock()
	if cooled > 0 && f.o.CoolDown != nil {
		f.o.CoolDown(w.Registry, cooled)
	}
	return again
}

// look takes in what a blob has missing after all of its tasks have ended. The lock is held.
func (f *Fetcher) look(b *blob, missing []Range) {
	w := b.work
	switch {
	case w.err != nil || len(b.active) > 0 || len(b.todo) > 0 && !b.refill:
	case len(missing) > 0 && !b.refill && b.lost():
		f.fail(w, puller.Errorf(puller.ErrInternal, "bytes of %s that were written are missing", b.sink.Digest()))
	default:
		b.refill = false
		b.fill(missing)
	}
}

// lost counts how often bytes are missing after all were written. They may be once: who
// writes beside this Fetcher may throw them away.
func (b *blob) lost() bool {
	b.tries++
	return b.tries > maxFails
}

// sinkFailed is for a sink that has refused bytes.
func (f *Fetcher) sinkFailed(b *blob, err error) {
	if puller.KindOf(err) != puller.ErrCorrupt {
		f.fail(b.work, err)
		return
	}
	if b.corrupt++; b.corrupt > 1 {
		f.fail(b.work, err)
		return
	}
	f.restart(b)
}

// restart begins a blob anew, as one stream, once its tasks have ended.
func (f *Fetcher) restart(b *blob) {
	b.whole, b.refill, b.todo = true, true, nil
	for _, other := range b.active {
		other.cancel(errLost)
	}
}

// noRanges is for a registry that has refused a range.
func (f *Fetcher) noRanges(t *task, err error) {
	switch {
	case t.whole:
		f.fail(t.blob.work, err) // it also refuses the whole blob
	case !t.blob.whole:
		f.oneStream(t.blob)
		f.restart(t.blob)
	}
}

// busy is for a registry that asks for fewer requests. It returns for how long none is made.
func (f *Fetcher) busy(t *task, err error, now time.Time) time.Duration {
	pause := t.blob.work.registry.cool(puller.RetryAfterOf(err), now)
	if pause > maxCoolDown || t.blob.work.registry.busy > maxFails {
		f.fail(t.blob.work, err)
		return pause
	}
	f.stats.Retries++
	f.putBack(t, t.fails, time.Time{})
	return pause
}

// failed is for a task that has not brought all of its piece.
func (f *Fetcher) failed(t *task, err error, now time.Time) {
	if !isRetried(err) {
		f.fail(t.blob.work, err)
		return
	}
	if t.covered {
		return
	}
	fails, due := 0, now
	if t.got < leastProgress {
		fails = t.fails + 1
		due = now.Add(firstBackoff << t.fails)
	}
	if t.whole {
		if t.blob.tries++; t.blob.tries > maxFails { // each begins at the first byte
			fails = maxFails + 1
		}
	}
	if fails > maxFails {
		var e *puller.Error
		if !errors.As(err, &e) {
			err = &puller.Error{Kind: puller.ErrRegistryUnavailable, Err: fmt.Errorf("fetch %s: %w", t.blob.sink.Digest(), err)}
		}
		f.fail(t.blob.work, err)
		return
	}
	f.stats.Retries++
	f.putBack(t, fails, due)
}

// putBack puts back what a task has not brought.
func (f *Fetcher) putBack(t *task, fails int, due time.Time) {
	if t.whole {
		t.at = 0
	}
	if t.at < t.to && !t.covered && !t.blob.refill && (t.whole || !t.blob.whole) {
		t.blob.put(piece{Range{t.at, t.to}, fails, due})
	}
}

// isRetried reports whether the same request may succeed.
func isRetried(err error) bool {
	var e *puller.Error
	if !errors.As(err, &e) {
		return true // of a body
	}
	switch e.Kind {
	case puller.ErrRegistryUnavailable, puller.ErrRateLimited, puller.ErrTruncated, puller.ErrStalled:
		return true
	}
	return false
}
