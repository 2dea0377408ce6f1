package puller

import (
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

// waiter is a transfer in the queue, until it gives its slot back or leaves.
type waiter struct {
	place
	queue   *queue
	host    *host
	shares  []*share // of the callers
	ready   func()
	cooling func(until time.Time)
	slot    bool
	left    bool // it is in the queue no more, and has no slot
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
	if !w.slot {
		q.unline(w)
	}
	w.share(caller)
	w.rank = max(w.rank, rank)
	if w.batched && !batched {
		w.batched = false
		if w.slot {
			q.batched--
			w.host.batched--
		}
	}
	if !w.slot {
		q.line(w)
	}
	q.hand()
}

// abandon takes a waiter out of the queue, unless it has been given a slot, which
// is to be given back with release. It reports whether it did.
func (w *waiter) abandon() bool {
	q := w.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.slot {
		return false
	}
	if !w.left {
		q.unline(w)
		q.leave(w)
	}
	return true
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
	until, begun := w.lengthen(asked)
	if begun {
		w.queue.mu.Lock()
		waiting := w.queue.waitFor(w.host)
		w.queue.mu.Unlock()
		for _, other := range waiting {
			other.cooling(until)
		}
	}
	return time.Until(until).Round(time.Millisecond)
}

// lengthen is coolDown but for those who wait. It returns the cool-down's end, and
// whether they are to be told of it.
func (w *waiter) lengthen(asked time.Duration) (until time.Time, begun bool) {
	q, h := w.queue, w.host
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	left := h.until.Sub(now)
	length := min(asked, longestCoolDown)
	if asked <= 0 {
		length = min(leastCoolDown<<min(h.row, 16), mostCoolDown)
		if left > 0 {
			return h.until, false
		}
	}
	if length <= left {
		return h.until, false
	}
	if left <= 0 {
		h.row++
	}
	h.until = now.Add(length)
	// The timer needs no stopping: at worst it finds nothing to hand over.
	time.AfterFunc(length, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.hand()
		q.forget(h)
	})
	return h.until, true
}

// served notes that a waiter's registry has served a transfer.
func (w *waiter) served() {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.host.row = 0
}
