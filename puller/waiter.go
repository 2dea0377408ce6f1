package puller

import (
	"context"
	"slices"
	"time"
)

// place is what a transfer's place in the queue follows from.
type place struct {
	key     transferKey
	callers []string // who want it
	rank    int
	batched bool   // only prewarms want it
	turn    uint64 // when the transfer's first job was admitted
}

// waiter is a transfer in the queue.
type waiter struct {
	place
	queue  *queue
	host   *host
	shares []*share      // of the callers
	ready  chan struct{} // closed when the waiter has a slot
	left   bool          // it is in the queue no more, and has no slot
}

// raise gives a waiter a higher rank, more than prewarms that want it, or one
// more caller.
func (w *waiter) raise(rank int, batched bool, caller string) {
	q := w.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	known := slices.ContainsFunc(w.shares, func(c *share) bool { return c.name == caller })
	if w.left || rank <= w.rank && (batched || !w.batched) && known {
		return
	}
	has := w.has()
	if !has {
		q.unline(w)
	}
	w.share(caller)
	w.rank = max(w.rank, rank)
	if w.batched && !batched {
		w.batched = false
		if has {
			q.batched--
			w.host.batched--
		}
	}
	if !has {
		q.line(w)
	}
	q.hand()
}

// acquire returns nil when the slot is the caller's, to be given back with
// release. When ctx ends first, the waiter has left the queue. cooling is told
// of every cool-down that is waited for, with how long it still is.
func (w *waiter) acquire(ctx context.Context, cooling func(time.Duration)) error {
	q := w.queue
	for {
		q.mu.Lock()
		left, changed := time.Until(w.host.until), w.host.changed
		q.mu.Unlock()
		if left > 0 && !w.has() {
			cooling(left)
		}
		select {
		case <-w.ready:
			return nil
		case <-changed:
			continue
		case <-ctx.Done():
		}
		w.abandon()
		return context.Cause(ctx)
	}
}

// abandon takes a waiter out of the queue, or gives its slot back if it has
// been given one meanwhile. It is for waiters that acquire did not return.
func (w *waiter) abandon() {
	q := w.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.has() {
		q.giveBack(w)
	} else {
		q.unline(w)
		q.leave(w)
	}
}

func (w *waiter) has() bool {
	select {
	case <-w.ready:
		return true
	default:
		return false
	}
}

// release gives the waiter's slot back.
func (w *waiter) release() {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.queue.giveBack(w)
}

// coolDown begins a cool-down of a waiter's registry, of the length that the
// registry asked for or, with 0, of our own. It returns how long is left.
// Transfers that were refused together begin one, not one each.
func (w *waiter) coolDown(asked time.Duration) time.Duration {
	q, h := w.queue, w.host
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	left := h.until.Sub(now)
	length := min(asked, longestCoolDown)
	if asked <= 0 {
		length = min(leastCoolDown<<min(h.row, 16), mostCoolDown)
		if left > 0 {
			return left
		}
	}
	if length <= left {
		return left
	}
	if left <= 0 {
		h.row++
	}
	h.until = now.Add(length)
	close(h.changed)
	h.changed = make(chan struct{})
	// The timer needs no stopping: at worst it finds nothing to hand over.
	time.AfterFunc(length, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.hand()
		q.forget(h)
	})
	return length
}

// served notes that a waiter's registry has served a transfer.
func (w *waiter) served() {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.host.row = 0
}
