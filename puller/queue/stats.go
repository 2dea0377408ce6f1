package queue

import "time"

// Stats are figures of a queue.
type Stats struct {
	Slots     int
	Waiting   int    // tickets without a slot
	Cooling   int    // cool-downs that go on
	CoolDowns uint64 // that have begun
}

// Stats returns the present figures.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Slots: q.all, Waiting: len(q.tickets(nil)), CoolDowns: q.coolDowns}
	now := time.Now()
	for _, r := range q.registries {
		for _, l := range r.limits {
			if now.Before(l.until) {
				s.Cooling++
			}
		}
	}
	return s
}
