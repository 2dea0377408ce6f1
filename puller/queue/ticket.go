package queue

import (
	"slices"
	"time"
)

// Ticket is a transfer in the queue, until it gives its slot back or leaves. Its
// methods may be called from anywhere.
type Ticket struct {
	Place

	queue    *Queue
	registry *registry
	limit    *limit
	callers  []*caller
	ready    func(*Ticket)
	cooling  func(until time.Time)
	slot     bool // it was given one
	fetched  bool // it has given its slot back, but not left
	trial    bool // it has its slot to try whether the registry still refuses
	left     bool // it neither waits nor has a slot
}

// addCaller makes a ticket one of a caller's. The queue's lock is held.
func (t *Ticket) addCaller(name string) {
	c := t.queue.callers[name]
	if c == nil {
		c = &caller{name: name}
		t.queue.callers[name] = c
	}
	if !slices.Contains(t.callers, c) {
		c.tickets++
		t.callers = append(t.callers, c)
	}
}

// Raise tells the queue what a ticket has become since it joined: of a higher
// rank, wanted by more than prewarms, or by more callers.
func (t *Ticket) Raise(rank int, batched bool, callers ...string) {
	q := t.queue
	q.mu.Lock()
	known := !slices.ContainsFunc(callers, func(name string) bool {
		return !slices.ContainsFunc(t.callers, func(c *caller) bool { return c.name == name })
	})
	if t.left || rank <= t.Rank && (batched || !t.Batched) && known {
		q.mu.Unlock()
		return
	}
	if !t.slot {
		q.dequeue(t)
	}
	for _, name := range callers {
		t.addCaller(name)
	}
	t.Rank = max(t.Rank, rank)
	if t.Batched && !batched {
		t.Batched = false
		if t.slot && !t.fetched {
			q.batched--
			t.registry.batched--
		}
	}
	if !t.slot {
		q.enqueue(t)
	}
	granted := q.assign()
	q.mu.Unlock()
	tell(granted)
}

// Abandon takes a ticket out of the queue. It returns false if the ticket has been
// given a slot, which is to be given back by Release.
func (t *Ticket) Abandon() bool {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.slot {
		return false
	}
	if !t.left {
		q.dequeue(t)
		q.leave(t)
	}
	return true
}

// Fetched gives the ticket's slot back before Release does: its transfer asks nothing
// more of the registry, and waits for the engine to unpack what is there. So many
// tickets may do that at a time as there are slots. Of more than those, the others
// keep their slots.
func (t *Ticket) Fetched() {
	q := t.queue
	q.mu.Lock()
	if t.fetched || q.unpacking == q.all {
		q.mu.Unlock()
		return
	}
	t.giveBack()
	t.fetched = true
	q.unpacking++
	granted := q.assign()
	q.mu.Unlock()
	tell(granted)
}

// Release takes a ticket with a slot out of the queue. It gives the slot back, unless
// Fetched has. It is called once.
func (t *Ticket) Release() {
	q := t.queue
	q.mu.Lock()
	if t.fetched {
		q.unpacking--
	} else {
		t.giveBack()
	}
	if use := q.names[t.Image]; use.running == 1 {
		delete(q.names, t.Image)
	} else {
		q.names[t.Image] = nameUse{use.platform, use.running - 1}
	}
	q.leave(t)
	granted := q.assign()
	q.mu.Unlock()
	tell(granted)
}

// giveBack frees the ticket's slot. The queue's lock is held.
func (t *Ticket) giveBack() {
	t.queue.free++
	t.registry.running--
	t.endTrial()
	if t.Batched {
		t.queue.batched--
		t.registry.batched--
	}
}
