package fetch

import (
	"context"
	"sort"
	"sync"
	"time"
)

// work is a Work that is being fetched. The Fetcher's lock guards it.
type work struct {
	Work
	ctx      context.Context
	cancel   context.CancelCauseFunc
	registry *registry
	blobs    []*blob
	tasks    sync.WaitGroup
	running  int   // tasks
	got      int64 // bytes that have come
	err      error
	over     bool
	done     chan struct{} // closed when it is over
}

func newWork(ctx context.Context, w Work) *work {
	job := &work{Work: w, done: make(chan struct{})}
	job.ctx, job.cancel = context.WithCancelCause(ctx)
	seen := make(map[string]bool)
	for _, s := range w.Sinks {
		if seen[s.Digest()] {
			continue
		}
		seen[s.Digest()] = true
		b := &blob{work: job, sink: s, size: s.Size()}
		if b.fill(s.Missing()); !b.complete {
			job.blobs = append(job.blobs, b)
		}
	}
	return job
}

// fail ends it with its first error.
func (w *work) fail(err error) {
	if w.err == nil && !w.over {
		w.err = err
		w.cancel(err)
	}
}

func (w *work) complete() bool {
	for _, b := range w.blobs {
		if !b.complete {
			return false
		}
	}
	return true
}

// next returns the first blob of which a piece can be fetched now, nil for none.
func (w *work) next(now time.Time) *blob {
	for _, b := range w.blobs {
		if b.ready(now) {
			return b
		}
	}
	return nil
}

// todo returns how many bytes no task fetches.
func (w *work) todo() (n int64) {
	for _, b := range w.blobs {
		n += b.left()
	}
	return n
}

// blob is a blob of a work.
type blob struct {
	work     *work
	sink     Sink
	size     int64
	todo     []piece // that no task fetches, in ascending order
	active   []*task
	complete bool
	// whole says that it is fetched by one request for all of it.
	whole bool
	// refill says that its bytes were thrown away: it begins anew once no task is left.
	refill bool
	// tries counts how often all of it was begun; corrupt how often its digest was wrong.
	tries, corrupt int
}

// left returns how many bytes of it no task fetches.
func (b *blob) left() (n int64) {
	for _, p := range b.todo {
		n += p.To - p.From
	}
	return n
}

// piece is a range of a blob that no task fetches.
type piece struct {
	Range
	fails int       // in a row, without progress
	due   time.Time // not before
}

// fill sets what is to do.
func (b *blob) fill(missing []Range) {
	b.todo = nil
	switch {
	case len(missing) == 0:
		b.complete = true
	case b.whole:
		b.todo = []piece{{Range: Range{0, b.size}}}
	default:
		for _, r := range missing {
			b.todo = append(b.todo, piece{Range: r})
		}
	}
}

// ready reports whether a piece can be fetched now.
func (b *blob) ready(now time.Time) bool {
	if len(b.todo) == 0 || b.refill || len(b.active) > 0 && (b.whole || b.work.registry.refusesRanges(now)) || b.work.registry.probe.holds(b, now) {
		return false
	}
	for _, p := range b.todo {
		if !p.due.After(now) {
			return true
		}
	}
	return false
}

const (
	// leastPiece is how small pieces become towards the end of a work, in bytes.
	leastPiece = 2 << 20
	// leastFirst is the same for the lowest layer: an engine has nothing to unpack before
	// that is whole.
	leastFirst = 1 << 20
)

// take makes a task of the next piece: the one that a reader waits for, or the first. The
// blob must be ready.
func (b *blob) take(wanted, chunk int64, now time.Time) *task {
	if b.work.registry.refusesRanges(now) && !b.whole {
		b.whole = true
		b.todo = []piece{{Range: Range{0, b.size}}}
	}
	chosen := -1
	for i, p := range b.todo {
		if p.due.After(now) {
			continue
		}
		if chosen < 0 {
			chosen = i
		}
		if p.From <= wanted && wanted < p.To {
			chosen = i
			break
		}
	}
	p := b.todo[chosen]
	b.todo = append(b.todo[:chosen:chosen], b.todo[chosen+1:]...)
	t := &task{blob: b, at: p.From, to: p.To, fails: p.fails, whole: b.whole}
	if b.whole || b.size <= chunk {
		return t
	}
	if p.From < wanted && wanted < p.To {
		t.at = wanted
		b.put(piece{Range: Range{p.From, wanted}, fails: p.fails})
	}
	// The last pieces are smaller, so that all connections end at about the same time. The
	// first ones are no larger than for all connections that there may come to be.
	left, least := b.work.todo(), int64(leastPiece)
	if b.sink.Below() == 0 {
		left, least = b.left(), leastFirst
	}
	n := (left + t.to - t.at) / int64(2*b.work.registry.limit)
	n = min(max(n, min(least, chunk)), chunk)
	if t.to-t.at > n {
		b.put(piece{Range: Range{t.at + n, t.to}})
		t.to = t.at + n
	}
	return t
}

// put puts a piece back.
func (b *blob) put(p piece) {
	i := sort.Search(len(b.todo), func(i int) bool { return b.todo[i].From > p.From })
	b.todo = append(b.todo[:i:i], append([]piece{p}, b.todo[i:]...)...)
}
