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
	limit   *limit
	shares  []*share // of the callers
	ready   func()
	cooling func(until time.Time)
	slot    bool
	tries   bool // it has its slot to try whether the registry still refuses
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
