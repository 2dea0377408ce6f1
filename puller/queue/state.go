package queue

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/towline/towline/puller"
)

// State returns the queue as it stands.
func (q *Queue) State() puller.QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	s := puller.QueueState{
		Slots: q.all, PerRegistry: q.perRegistry, Fetching: q.all - q.free, Unpacking: q.unpacking,
		Waiting: []puller.WaitingTransfer{}, Registries: []puller.RegistryState{},
	}
	waiting := make(map[*registry]int)
	tickets := q.tickets(nil)
	for i, t := range tickets {
		priority := ranked[t.Rank]
		switch priority {
		case puller.PriorityHigh:
			s.Queued.High++
		case puller.PriorityNormal:
			s.Queued.Normal++
		default:
			s.Queued.Low++
		}
		waiting[t.registry]++
		if i >= puller.MaxWaiting {
			continue
		}
		w := puller.WaitingTransfer{Image: t.Image, Platform: t.Platform, Registry: t.Registry, Priority: priority, Reason: q.reason(t, now)}
		if now.Before(t.limit.until) {
			w.Until = t.limit.until.UTC()
		}
		s.Waiting = append(s.Waiting, w)
	}
	for _, r := range q.registries {
		s.Registries = append(s.Registries, r.state(waiting[r], now))
	}
	slices.SortFunc(s.Registries, func(a, b puller.RegistryState) int { return cmp.Compare(a.Registry, b.Registry) })
	return s
}

// tickets returns those that wait, in the order of their turns: for a registry with one
// identity, or with nil all. The lock is held, here and below.
func (q *Queue) tickets(of *limit) (all []*Ticket) {
	for g, tickets := range q.waiting {
		if of != nil && g.limit != of {
			continue
		}
		for _, t := range tickets {
			if t.callers[0] == g.caller { // it is in a group for each
				all = append(all, t)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Ticket) int { return cmp.Compare(a.Turn, b.Turn) })
	return all
}

// reason says why a ticket has no slot.
func (q *Queue) reason(t *Ticket, now time.Time) puller.WaitReason {
	switch r := t.registry; {
	case !t.limit.open(now):
		return puller.WaitCoolDown
	case r.running >= q.perRegistry && q.perRegistry < q.all:
		return puller.WaitRegistryLimit
	case !q.nameIsFree(t):
		return puller.WaitOtherPlatform
	case q.free > 0 && t.Batched && (full(q.batched, q.all) || full(r.batched, q.perRegistry)):
		return puller.WaitPrewarmLimit
	}
	return puller.WaitSlots
}

func (r *registry) state(waiting int, now time.Time) puller.RegistryState {
	s := puller.RegistryState{Registry: r.name, Fetching: r.running, Waiting: waiting}
	for identity, l := range r.limits {
		if now.Before(l.until) {
			s.CoolDowns = append(s.CoolDowns, puller.CoolDown{Until: l.until.UTC(), Login: identity != [sha256.Size]byte{}})
		}
	}
	slices.SortFunc(s.CoolDowns, func(a, b puller.CoolDown) int { return a.Until.Compare(b.Until) })
	if n := len(s.CoolDowns); n > 0 {
		s.CoolDownUntil = s.CoolDowns[n-1].Until
	}
	return s
}

// ranked are the priorities by rank.
var ranked = []puller.Priority{puller.PriorityLow, puller.PriorityNormal, puller.PriorityHigh}

// Rank returns the rank of a priority: 0 for low, 1 for normal, 2 for high.
func Rank(p puller.Priority) int { return max(0, slices.Index(ranked, p)) }
