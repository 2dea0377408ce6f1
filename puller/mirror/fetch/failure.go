package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/towline/towline/puller"
)

const (
	// maxFails is how often a piece is tried without progress.
	maxFails = 5
	// leastProgress is how many bytes a request must bring to be progress.
	leastProgress = 64 << 10
	// firstBackoff is the pause after the first failure. It doubles.
	firstBackoff = 250 * time.Millisecond
	// slowFor is how long all requests of a work may bring less than leastProgress in all,
	// looked at every lookEvery. It is well below the minute after which a pull is taken
	// for one that stands still.
	slowFor, lookEvery = 30 * time.Second, 5 * time.Second
	// lowRate is what Options.Rate must be for that, in bytes a second.
	lowRate = 1 << 20
)

// pace is how much a work had brought at a time.
type pace struct {
	got   int64
	since time.Time
}

// tooSlow returns why a work is given up, nil where it is not: a registry, or what stands
// before it, may let each request live without ever sending what was asked for. Time in
// which the work makes no request counts for nothing: in a cool-down, or while others have
// the connections.
func (f *Fetcher) tooSlow(w *work, p *pace) error {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	waits := w.registry.until.After(now) || w.running == 0 && (f.running >= f.o.Connections || !w.registry.free(now))
	limited := f.limiter != nil && f.o.Rate < lowRate // each connection may wait long
	if waits || limited || w.got-p.got >= leastProgress {
		*p = pace{w.got, now}
	}
	if now.Sub(p.since) < slowFor {
		return nil
	}
	return puller.Errorf(puller.ErrStalled, "%s sent only %d bytes in %s", w.Registry, w.got-p.got, slowFor)
}

// end takes a task out, and decides what becomes of what it has not brought. It reports
// whether the blob is to be looked at.
func (f *Fetcher) end(t *task, err error) bool {
	now := time.Now()
	f.mu.Lock()
	b, w := t.blob, t.blob.work
	b.active = slices.DeleteFunc(b.active, func(other *task) bool { return other == t })
	w.registry.running--
	w.registry.probe.end(t, now)
	w.registry.total.One = max(w.registry.total.One, w.registry.probe.rate)
	f.running--
	partner := t.leave()
	if partner != nil {
		t.covered, partner.spared = true, now.Add(slow)
	}
	cause := context.Cause(t.ctx)
	var sink sinkError
	var cooled time.Duration
	switch {
	case w.err != nil:
	case w.ctx.Err() != nil:
		w.fail(context.Cause(w.ctx))
	case err == nil:
		w.registry.measured(t, now)
		if partner != nil {
			partner.cancel(errLost)
		}
	case errors.As(err, &sink):
		b.sinkFailed(sink.error)
	case errors.Is(cause, errLost), errors.Is(err, errLost):
	case errors.Is(err, puller.ErrNoRanges):
		t.noRanges(err)
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
	if cooled > 0 && w.CoolDown != nil {
		w.CoolDown(cooled)
	}
	return again
}

// look takes in what a blob has missing after all of its tasks have ended.
func (b *blob) look(missing []Range) {
	w := b.work
	switch {
	case w.err != nil || len(b.active) > 0 || len(b.todo) > 0 && !b.refill:
	case len(missing) > 0 && !b.refill && b.lost():
		w.fail(puller.Errorf(puller.ErrInternal, "bytes of %s that were written are missing", b.sink.Digest()))
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
func (b *blob) sinkFailed(err error) {
	if puller.KindOf(err) != puller.ErrCorrupt {
		b.work.fail(err)
		return
	}
	if b.corrupt++; b.corrupt > 1 {
		b.work.fail(err)
		return
	}
	b.restart()
}

// busy is for a registry that asks for fewer requests. It returns for how long none is made.
func (f *Fetcher) busy(t *task, err error, now time.Time) time.Duration {
	pause := t.blob.work.registry.cool(puller.RetryAfterOf(err), now)
	if pause > maxCoolDown || t.blob.work.registry.busy > maxFails {
		t.blob.work.fail(err)
		return pause
	}
	f.stats.Retries++
	t.putBack(t.fails, time.Time{})
	return pause
}

// failed is for a task that has not brought all of its piece.
func (f *Fetcher) failed(t *task, err error, now time.Time) {
	if !isRetried(err) {
		t.blob.work.fail(err)
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
		t.blob.work.fail(err)
		return
	}
	f.stats.Retries++
	t.putBack(fails, due)
}

// putBack puts back what a task has not brought.
func (t *task) putBack(fails int, due time.Time) {
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
