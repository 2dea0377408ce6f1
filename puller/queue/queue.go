// Package queue decides which transfer runs next. It does no I/O and starts no
// goroutine, but for the timers at the ends of cool-downs.
//
// There are so many slots in all, and so many for one registry. A transfer holds one
// while the engine fetches: while it only unpacks, the next transfer fetches. A
// registry in its cool-down gets none. Two platforms of one image do not run together.
// Between callers the order follows start-time fair queueing: a slot costs its caller
// virtual time, and the caller with the least is next. A slot of high priority
// costs less. Within one caller, the order is by priority, then by admission.
//
// Two rules keep a long list from taking all slots. Each eighth slot goes to the
// ticket that was admitted first. And tickets that only prewarms want leave one
// slot to others, where there are at least four slots.
package queue

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// Place is what decides on a ticket's place in the queue.
type Place struct {
	Registry        string            // its canonical address
	Identity        [sha256.Size]byte // of the credentials: registries limit callers one by one
	Image, Platform string
	Callers         []string // those that want it
	Rank            int      // of the priority
	Batched         bool     // only prewarms want it
	Turn            uint64   // the order of admission
}

const (
	// oldestEvery is how often a slot goes to the ticket that was admitted first.
	oldestEvery = 8
	// enoughSlots is from how many slots on prewarms leave one to others.
	enoughSlots = 4
)

// Queue hands out slots. Its methods may be called from anywhere.
type Queue struct {
	all         int // slots
	perRegistry int

	mu         sync.Mutex
	free       int
	batched    int // slots that prewarms have
	unpacking  int // tickets that have given their slots back, but not left
	waiting    map[group][]*Ticket
	registries map[string]*registry
	names      map[string]nameUse // by image
	callers    map[string]*caller
	handed     int    // slots, since the start
	coolDowns  uint64 // that have begun
	virtual    uint64 // the virtual time: that at which the last slot was due
	stopped    bool
}

// group holds tickets that differ in nothing but their turn, in its order. Of
// thousands that wait, only the first of each group is looked at.
type group struct {
	limit   *limit
	caller  *caller
	rank    int
	batched bool
}

// caller is what the queue knows of a caller.
type caller struct {
	name    string
	tickets int
	// due is the virtual time at which the next slot is due to the caller. It is
	// never before the queue's own: a caller gains nothing by its absence. It is kept
	// until then: a caller gains nothing by many tickets, one after the other.
	due uint64
}

// cost is what a slot of a rank adds to a caller's virtual time.
func cost(rank int) uint64 { return 4 >> rank }

// nameUse says what running transfers do to one name. An engine with a graph
// driver keeps one image under a name: two platforms at once would take it from
// each other before their proof.
type nameUse struct {
	platform string
	running  int
}

// registry is what the queue knows of one registry.
type registry struct {
	name    string
	tickets int
	running int
	batched int                          // of those that run, those that only prewarms want
	limits  map[[sha256.Size]byte]*limit // by the identity of credentials
}

// New returns a queue of so many slots, of which one registry gets at most
// perRegistry; 0 is all of them.
func New(all, perRegistry int) *Queue {
	all = max(1, all)
	return &Queue{
		all: all, free: all, perRegistry: cmp.Or(max(0, perRegistry), all),
		waiting: make(map[group][]*Ticket), registries: make(map[string]*registry),
		names: make(map[string]nameUse), callers: make(map[string]*caller),
	}
}

// Stop has the queue hand out no slot any more.
func (q *Queue) Stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
}

// Join puts a ticket in the queue. It returns the ticket, and when the cool-down of
// its registry ends, which is past where there is none. A ticket that waits holds
// no goroutine. The queue calls its functions, without a lock: ready once the
// ticket has a slot, perhaps before Join returns; cooling whenever a cool-down
// begins that the ticket waits for, or gets longer, with its end. They must not
// wait. Of two cool-downs that begin together the longer one may be told first.
func (q *Queue) Join(at Place, ready func(*Ticket), cooling func(until time.Time)) (t *Ticket, until time.Time) {
	q.mu.Lock()
	r := q.registries[at.Registry]
	if r == nil {
		r = &registry{name: at.Registry, limits: make(map[[sha256.Size]byte]*limit)}
		q.registries[at.Registry] = r
	}
	l := r.limits[at.Identity]
	if l == nil {
		l = &limit{registry: r, identity: at.Identity}
		r.limits[at.Identity] = l
	}
	r.tickets++
	l.tickets++
	t = &Ticket{Place: at, queue: q, registry: r, limit: l, ready: ready, cooling: cooling}
	for _, name := range at.Callers {
		t.addCaller(name)
	}
	q.enqueue(t)
	until = l.until
	granted := q.assign()
	q.mu.Unlock()
	tell(granted)
	return t, until
}

// tell calls those that have a slot now. No lock is held.
func tell(granted []*Ticket) {
	for _, t := range granted {
		t.ready(t)
	}
}

// enqueue puts a ticket in its groups, one for each caller. The lock is held, here
// and below.
func (q *Queue) enqueue(t *Ticket) {
	for _, c := range t.callers {
		g := group{t.limit, c, t.Rank, t.Batched}
		i, _ := slices.BinarySearchFunc(q.waiting[g], t.Turn, byTurn)
		q.waiting[g] = slices.Insert(q.waiting[g], i, t)
	}
}

// dequeue takes it out.
func (q *Queue) dequeue(t *Ticket) {
	for _, c := range t.callers {
		g := group{t.limit, c, t.Rank, t.Batched}
		i, _ := slices.BinarySearchFunc(q.waiting[g], t.Turn, byTurn)
		// A job that wants its image again has a second ticket of its turn.
		if k := slices.Index(q.waiting[g][i:], t); k >= 0 {
			q.waiting[g] = slices.Delete(q.waiting[g], i+k, i+k+1)
		}
		if len(q.waiting[g]) == 0 {
			delete(q.waiting, g)
		}
	}
}

func byTurn(t *Ticket, turn uint64) int { return cmp.Compare(t.Turn, turn) }

// leave forgets a ticket that neither waits nor has a slot.
func (q *Queue) leave(t *Ticket) {
	t.left = true
	t.registry.tickets--
	t.limit.tickets--
	q.forget(t.limit)
	for _, c := range t.callers {
		if c.tickets--; c.tickets == 0 {
			q.forgetCallers()
		}
	}
}

// forgetCallers drops the callers without tickets whose virtual time is the
// queue's: nothing is to be known of them.
func (q *Queue) forgetCallers() {
	wanted := false
	for _, c := range q.callers {
		wanted = wanted || c.tickets > 0
	}
	for name, c := range q.callers {
		if c.tickets == 0 && (c.due <= q.virtual || !wanted) {
			delete(q.callers, name)
		}
	}
}

// forget drops what is known of a registry for an identity without tickets and
// without a cool-down: names of registries, and credentials, come from outside.
func (q *Queue) forget(l *limit) {
	if l.tickets > 0 || time.Now().Before(l.until) || l.registry.limits[l.identity] != l {
		return
	}
	delete(l.registry.limits, l.identity)
	if r := l.registry; len(r.limits) == 0 && q.registries[r.name] == r {
		delete(q.registries, r.name)
	}
}

// assign gives free slots to tickets, and returns those tickets.
func (q *Queue) assign() (granted []*Ticket) {
	now := time.Now()
	for q.free > 0 && !q.stopped {
		oldest := q.handed%oldestEvery == oldestEvery-1
		var next *Ticket
		var of *caller // the caller that the slot is due to
		for g, tickets := range q.waiting {
			if !q.open(g, now) {
				continue
			}
			first := slices.IndexFunc(tickets, q.nameIsFree)
			if first < 0 {
				continue
			}
			if t := tickets[first]; next == nil || q.before(t, g.caller, next, of, oldest) {
				next, of = t, g.caller
			}
		}
		if next == nil {
			break
		}
		q.give(next, of, oldest)
		granted = append(granted, next)
	}
	return granted
}

// open reports whether there is a slot for a group.
func (q *Queue) open(g group, now time.Time) bool {
	r := g.limit.registry
	return r.running < q.perRegistry && g.limit.open(now) &&
		!(g.batched && (full(q.batched, q.all) || full(r.batched, q.perRegistry)))
}

// full reports whether prewarms have as many of the slots as they may.
func full(batched, slots int) bool { return slots >= enoughSlots && batched >= slots-1 }

// nameIsFree reports whether no transfer of another platform runs for the image.
func (q *Queue) nameIsFree(t *Ticket) bool {
	use, used := q.names[t.Image]
	return !used || use.platform == t.Platform
}

// before reports whether ticket a is served for its caller before ticket b for its
// own.
func (q *Queue) before(a *Ticket, of *caller, b *Ticket, other *caller, oldest bool) bool {
	if oldest {
		return a.Turn < b.Turn
	}
	return cmp.Or(cmp.Compare(q.due(of), q.due(other)), cmp.Compare(b.Rank, a.Rank), cmp.Compare(a.Turn, b.Turn)) < 0
}

// due returns the virtual time at which the next slot is due to a caller.
func (q *Queue) due(c *caller) uint64 { return max(c.due, q.virtual) }

// give hands a slot to a ticket: to the oldest one, or to one that is due to a
// caller. All callers of the ticket have the slot, and it costs each of them.
func (q *Queue) give(t *Ticket, of *caller, oldest bool) {
	q.dequeue(t)
	q.names[t.Image] = nameUse{t.Platform, q.names[t.Image].running + 1}
	q.free--
	q.handed++
	t.registry.running++
	if t.limit.trial {
		t.trial = true
		t.limit.trials++
	}
	if t.Batched {
		q.batched++
		t.registry.batched++
	}
	start := q.due(of)
	for _, c := range t.callers {
		c.due = q.due(c) + cost(t.Rank)
	}
	if !oldest { // else it may be far ahead of what is due to others
		q.virtual = start
		q.forgetCallers()
	}
	t.slot = true
}
