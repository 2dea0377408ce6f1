package puller

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// queue decides which transfer runs next: so many at a time in all, so many of
// one registry, none of a registry that is in its cool-down, and one platform
// of an image after the other. Among those that may run it is the one with the
// highest rank; among those one of the caller whose turn with a slot is longest
// ago; among those the one that was admitted first.
//
// Two things keep a long list from taking it all. Every so often the turn is of
// the one that was admitted first, whatever its rank: so low ranks get on under
// a load of high ones. And transfers that only prewarms want leave one slot to
// others, where there are enough of them: so one that comes need not wait until
// a transfer of a list ends. They may have all others, however many others wait.
type queue struct {
	all  int // transfers at a time
	each int // the same, of one registry

	mu      sync.Mutex
	free    int
	batched int // slots that prewarms have
	lanes   map[laneKey]*lane
	hosts   map[string]*host
	tags    map[string]tagUse // by image
	callers map[string]*share
	handed  int    // slots, since the start
	virtual uint64 // the virtual time: that at which the last slot was due
	stopped bool
}

// share is what the queue knows of a caller.
type share struct {
	name  string
	users int // waiters, with or without a slot
	// due is the virtual time at which the next slot is due to the caller. It
	// is never before the queue's own, so being away earns nothing; and it is
	// kept until then, so coming often with one at a time earns nothing.
	due uint64
}

// cost is what a slot of a rank adds to a caller's virtual time.
func cost(rank int) uint64 { return 4 >> rank }

// lane holds waiters that differ in nothing but their turn, in its order. Of
// thousands that wait, only the first of each lane are looked at.
type lane struct {
	waiting []*waiter
}

type laneKey struct {
	limit   *limit
	share   *share
	rank    int
	batched bool
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
	users   int                          // waiters, with or without a slot
	running int                          // those with a slot
	batched int                          // those of them that only prewarms want
	limits  map[[sha256.Size]byte]*limit // by the identity of credentials
}

func newQueue(all, each int) *queue {
	all = max(1, all)
	return &queue{
		all: all, free: all, each: cmp.Or(max(0, each), all),
		lanes: make(map[laneKey]*lane), hosts: make(map[string]*host), tags: make(map[string]tagUse), callers: make(map[string]*share),
	}
}

// stop has the queue give no slot any more.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
}

// join puts a waiter in the queue, and returns when the cool-down of its registry
// ends, which is past where there is none. Whoever waits is called, and holds no
// goroutine: ready once there is a slot, within whatever made it free, with its
// locks held, and perhaps before join returns; cooling, without a lock, whenever a
// cool-down begins that is waited for or gets longer, with when it ends. Of two
// that begin together it may be called with the longer one first, and with one
// that join has returned.
func (q *queue) join(at place, ready func(), cooling func(time.Time)) (w *waiter, until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	registry := RegistryOf(at.key.image)
	h := q.hosts[registry]
	if h == nil {
		h = &host{name: registry, limits: make(map[[sha256.Size]byte]*limit)}
		q.hosts[registry] = h
	}
	l := h.limits[at.key.identity]
	if l == nil {
		l = &limit{host: h, identity: at.key.identity}
		h.limits[at.key.identity] = l
	}
	h.users++
	l.users++
	w = &waiter{place: at, queue: q, host: h, limit: l, ready: ready, cooling: cooling}
	for _, name := range at.callers {
		w.share(name)
	}
	q.line(w)
	q.hand()
	return w, l.until
}

// share makes a waiter one of a caller's.
func (w *waiter) share(name string) {
	c := w.queue.callers[name]
	if c == nil {
		c = &share{name: name}
		w.queue.callers[name] = c
	}
	if !slices.Contains(w.shares, c) {
		c.users++
		w.shares = append(w.shares, c)
	}
}

// line puts a waiter in its lanes, one for each caller.
func (q *queue) line(w *waiter) {
	for _, c := range w.shares {
		key := laneKey{w.limit, c, w.rank, w.batched}
		l := q.lanes[key]
		if l == nil {
			l = &lane{}
			q.lanes[key] = l
		}
		i, _ := slices.BinarySearchFunc(l.waiting, w.turn, byTurn)
		l.waiting = slices.Insert(l.waiting, i, w)
	}
}

// unline takes it out.
func (q *queue) unline(w *waiter) {
	for _, c := range w.shares {
		key := laneKey{w.limit, c, w.rank, w.batched}
		l := q.lanes[key]
		if i, ok := slices.BinarySearchFunc(l.waiting, w.turn, byTurn); ok {
			l.waiting = slices.Delete(l.waiting, i, i+1)
		}
		if len(l.waiting) == 0 {
			delete(q.lanes, key)
		}
	}
}

func byTurn(w *waiter, turn uint64) int { return cmp.Compare(w.turn, turn) }

func (q *queue) giveBack(w *waiter) {
	q.free++
	w.host.running--
	w.settleTrial()
	if w.batched {
		q.batched--
		w.host.batched--
	}
	if u := q.tags[w.key.image]; u.running == 1 {
		delete(q.tags, w.key.image)
	} else {
		q.tags[w.key.image] = tagUse{u.platform, u.running - 1}
	}
	q.leave(w)
	q.hand()
}

func (q *queue) leave(w *waiter) {
	w.left = true
	w.host.users--
	w.limit.users--
	q.forget(w.limit)
	for _, c := range w.shares {
		if c.users--; c.users == 0 {
			q.forgetCallers()
		}
	}
}

// forgetCallers drops callers that want nothing, as soon as nothing is to be
// known of them: their virtual time is that of all.
func (q *queue) forgetCallers() {
	wanted := false
	for _, c := range q.callers {
		wanted = wanted || c.users > 0
	}
	for name, c := range q.callers {
		if c.users == 0 && (c.due <= q.virtual || !wanted) {
			delete(q.callers, name)
		}
	}
}

// forget drops what is known of a registry for an identity that nobody uses and
// that is in no cool-down: names of registries, and credentials, come from outside.
func (q *queue) forget(l *limit) {
	if l.users > 0 || time.Now().Before(l.until) || l.host.limits[l.identity] != l {
		return
	}
	delete(l.host.limits, l.identity)
	if h := l.host; len(h.limits) == 0 && q.hosts[h.name] == h {
		delete(q.hosts, h.name)
	}
}

// hand gives free slots away.
func (q *queue) hand() {
	now := time.Now()
	for q.free > 0 && !q.stopped {
		oldest := q.handed%everySoOften == everySoOften-1
		var next *waiter
		var caller *share // for whom it is next
		for key, l := range q.lanes {
			if !q.open(key, now) {
				continue
			}
			first := slices.IndexFunc(l.waiting, q.alone)
			if first < 0 {
				continue
			}
			if w := l.waiting[first]; next == nil || q.before(w, key.share, next, caller, oldest) {
				next, caller = w, key.share
			}
		}
		if next == nil {
			return
		}
		q.give(next, caller, oldest)
	}
}

// open reports whether there is a slot for a lane.
func (q *queue) open(l laneKey, now time.Time) bool {
	h := l.limit.host
	return h.running < q.each && l.limit.open(now) &&
		!(l.batched && (full(q.batched, q.all) || full(h.batched, q.each)))
}

// full reports whether prewarms have as many of the slots as they may.
func full(batched, slots int) bool { return slots >= enough && batched >= slots-1 }

// alone reports whether no transfer of another platform runs for the image.
func (q *queue) alone(w *waiter) bool {
	use, inUse := q.tags[w.key.image]
	return !inUse || use.platform == w.key.platform
}

// before reports whether a waiter is served for a caller before another one: by
// caller, rank and admission, or by admission alone.
func (q *queue) before(a *waiter, of *share, b *waiter, other *share, oldest bool) bool {
	if oldest {
		return a.turn < b.turn
	}
	return cmp.Or(cmp.Compare(q.due(of), q.due(other)), cmp.Compare(b.rank, a.rank), cmp.Compare(a.turn, b.turn)) < 0
}

// due returns the virtual time at which the next slot is due to a caller.
func (q *queue) due(c *share) uint64 { return max(c.due, q.virtual) }

// give hands a slot to a waiter: to the oldest, or to one because it is due to a
// caller. All callers of the waiter have the slot, and it costs each of them.
func (q *queue) give(w *waiter, of *share, oldest bool) {
	q.unline(w)
	q.tags[w.key.image] = tagUse{w.key.platform, q.tags[w.key.image].running + 1}
	q.free--
	q.handed++
	w.host.running++
	if w.limit.trial {
		w.tries = true
		w.limit.trying++
	}
	if w.batched {
		q.batched++
		w.host.batched++
	}
	start := q.due(of)
	for _, c := range w.shares {
		c.due = q.due(c) + cost(w.rank)
	}
	if !oldest { // else it may be far ahead of what is due to others
		q.virtual = start
		q.forgetCallers()
	}
	w.slot = true
	w.ready()
}
