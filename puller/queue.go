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
// of an image after the other. Among those
// that may run it is the one with the highest rank, among those the one that
// was admitted first.
type queue struct {
	each int // transfers of one registry at a time

	mu      sync.Mutex
	free    int
	waiting []*waiter // in the order they are served
	hosts   map[string]*host
	tags    map[string]tagUse // by image
}

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

// waiter is a transfer's place in the queue.
type waiter struct {
	queue *queue
	host  *host
	key   transferKey
	rank  int
	turn  uint64        // when the transfer was admitted
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
	return &queue{free: all, each: cmp.Or(max(0, each), all), hosts: make(map[string]*host), tags: make(map[string]tagUse)}
}

// join puts a waiter in the queue. It must be waited for with acquire.
func (q *queue) join(key transferKey, rank int, turn uint64) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	registry := registryOf(key.image)
	h := q.hosts[registry]
	if h == nil {
		h = &host{name: registry, changed: make(chan struct{})}
		q.hosts[registry] = h
	}
	h.users++
	w := &waiter{queue: q, host: h, key: key, rank: rank, turn: turn, ready: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.hand()
	return w
}

// raise gives a waiter a higher rank; one with a slot is not touched by it.
func (w *waiter) raise(rank int) {
	q := w.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	w.rank = max(w.rank, rank)
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
		q.leave(w.host)
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
	q.leave(w.host)
	q.hand()
}

func (q *queue) leave(h *host) {
	h.users--
	q.forget(h)
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
	if q.free == 0 {
		return // to sort many thousands at every admission would take long
	}
	slices.SortStableFunc(q.waiting, func(a, b *waiter) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.turn, b.turn))
	})
	now := time.Now()
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waiter) bool {
		use, inUse := q.tags[w.key.image]
		if q.free == 0 || w.host.running >= q.each || now.Before(w.host.until) || inUse && use.platform != w.key.platform {
			return false
		}
		q.tags[w.key.image] = tagUse{w.key.platform, use.running + 1}
		q.free--
		w.host.running++
		close(w.ready)
		return true
	})
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
