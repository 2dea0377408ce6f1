package puller

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// queue decides which transfer runs next: so many at a time in all, so many of
// one registry, none of a registry that is in its cool-down, and one platform
// of an image after the other. Among those that may run it is the one with the
// highest rank; among those one of the caller who has had the fewest slots of
// late; among those the one that was admitted first.
//
// Two things keep a long list from taking it all. Every so often the turn is of
// the one that was admitted first, whatever its rank: so low ranks get on under
// a load of high ones. And transfers that only prewarms want leave one slot to
// others, where there are enough of them: so one that comes need not wait until
// a transfer of a list ends.
type queue struct {
	all  int // transfers at a time
	each int // the same, of one registry

	mu      sync.Mutex
	free    int
	waiting []*waiter // in the order they are served
	hosts   map[string]*host
	tags    map[string]tagUse // by image
	callers map[string]*share
	level   uint64 // what the caller that was served last had before that
	handed  int    // slots, since the start
}

// share is what a caller has had of the slots. One who comes starts at the
// level of those who are there: not having asked earns nothing.
type share struct {
	users  int // waiters, with or without a slot
	served uint64
}

const (
	// everySoOften is how many slots are handed out by rank before one goes to
	// the transfer that has waited longest.
	everySoOften = 8
	// enough is from how many slots on one is left free by prewarms.
	enough = 4
)

// tagUse is what transfers that run do to one name. An engine with a graph
// driver keeps one image under it: two platforms at once would take it from
// each other before their proof.
type tagUse struct {
	platform string
	running  int
}

// host is what the queue knows of one registry.
type host struct {
	name    string
	users   int           // waiters, with or without a slot
	running int           // those with a slot
	until   time.Time     // the end of the cool-down; past where there is none
	row     int           // cool-downs in a row
	changed chan struct{} // closed when a cool-down begins or gets longer
}

// place is what a transfer's place in the queue follows from.
type place struct {
	key     transferKey
	caller  string
	rank    int
	batched bool   // only prewarms want it
	turn    uint64 // when the transfer's first job was admitted
}

// waiter is a transfer in the queue.
type waiter struct {
	place
	queue *queue
	host  *host
	ready chan struct{} // closed when the waiter has a slot
}

const (
	// A registry that does not say how long to wait is asked again after a
	// time that doubles from the least to the most.
	leastCoolDown = 15 * time.Second
	mostCoolDown  = 15 * time.Minute
	// longestCoolDown bounds what a registry may ask for.
	longestCoolDown = 6 * time.Hour
)

func newQueue(all, each int) *queue {
	all = max(1, all)
	return &queue{
		all: all, free: all, each: cmp.Or(max(0, each), all),
		hosts: make(map[string]*host), tags: make(map[string]tagUse), callers: make(map[string]*share),
	}
}

// join puts a waiter in the queue. It must be waited for with acquire.
func (q *queue) join(at place) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	registry := registryOf(at.key.image)
	h := q.hosts[registry]
	if h == nil {
		h = &host{name: registry, changed: make(chan struct{})}
		q.hosts[registry] = h
	}
	h.users++
	c := q.callers[at.caller]
	if c == nil {
		c = &share{served: q.level}
		q.callers[at.caller] = c
	}
	c.users++
	w := &waiter{place: at, queue: q, host: h, ready: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	// No other can have become free to run.
	if q.free > 0 && q.mayRun(w, time.Now()) {
		q.give(w)
	}
	return w
}

// raise gives a waiter a higher rank, or more than prewarms that want it; one
// with a slot is not touched by it.
func (w *waiter) raise(rank int, batched bool) {
	q := w.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	w.rank = max(w.rank, rank)
	if w.batched && !batched {
		w.batched = false
		q.hand()
	}
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
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.leave(w)
	} else {
		q.giveBack(w)
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

func (q *queue) giveBack(w *waiter) {
	q.free++
	w.host.running--
	if u := q.tags[w.key.image]; u.running == 1 {
		delete(q.tags, w.key.image)
	} else {
		q.tags[w.key.image] = tagUse{u.platform, u.running - 1}
	}
	q.leave(w)
	q.hand()
}

func (q *queue) leave(w *waiter) {
	w.host.users--
	q.forget(w.host)
	c := q.callers[w.caller]
	if c.users--; c.users == 0 {
		delete(q.callers, w.caller)
	}
}

// forget drops a registry that nobody uses and that is in no cool-down: names
// of registries come from outside.
func (q *queue) forget(h *host) {
	if h.users == 0 && !time.Now().Before(h.until) && q.hosts[h.name] == h {
		delete(q.hosts, h.name)
	}
}

// hand gives free slots away.
func (q *queue) hand() {
	now := time.Now()
	for q.free > 0 {
		oldest := q.handed%everySoOften == everySoOften-1
		var next *waiter
		for _, w := range q.waiting {
			if q.mayRun(w, now) && (next == nil || q.before(w, next, oldest)) {
				next = w
			}
		}
		if next == nil {
			return
		}
		q.give(next)
	}
}

// mayRun reports whether nothing is in a waiter's way but others in the queue.
func (q *queue) mayRun(w *waiter, now time.Time) bool {
	use, inUse := q.tags[w.key.image]
	return q.free > left(w, q.all) && w.host.running < q.each-left(w, q.each) &&
		!now.Before(w.host.until) && !(inUse && use.platform != w.key.platform)
}

// left is how many of so many slots a waiter leaves to others.
func left(w *waiter, slots int) int {
	if w.batched && slots >= enough {
		return 1
	}
	return 0
}

// before reports whether a waiter is served before another: by rank, caller and
// turn, or by turn alone.
func (q *queue) before(a, b *waiter, oldest bool) bool {
	if oldest {
		return a.turn < b.turn
	}
	return cmp.Or(
		cmp.Compare(b.rank, a.rank),
		cmp.Compare(q.callers[a.caller].served, q.callers[b.caller].served),
		cmp.Compare(a.turn, b.turn)) < 0
}

// give hands a slot to a waiter.
func (q *queue) give(w *waiter) {
	q.waiting = slices.DeleteFunc(q.waiting, func(other *waiter) bool { return other == w })
	q.tags[w.key.image] = tagUse{w.key.platform, q.tags[w.key.image].running + 1}
	q.free--
	q.handed++
	w.host.running++
	c := q.callers[w.caller]
	q.level = c.served
	c.served++
	close(w.ready)
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
