package queue

import (
	"crypto/sha256"
	"time"
)

const (
	// A registry that does not say how long to wait is asked again after a time
	// that doubles from the least to the most.
	leastCoolDown = 15 * time.Second
	mostCoolDown  = 15 * time.Minute
	// longestCoolDown bounds what a registry may ask for.
	longestCoolDown = 6 * time.Hour
	// mostUnconfirmed bounds what it may ask for the first time: one header that
	// is wrong must not close it for hours. One transfer tries it then. Only if
	// that is refused too, the registry gets what it asks for.
	mostUnconfirmed = 5 * time.Minute
)

// limit is what the queue knows of one registry for one identity: registries
// limit the rate of callers, so what is refused to one may be given to another.
type limit struct {
	registry *registry
	identity [sha256.Size]byte
	tickets  int       // with or without a slot
	trials   int       // tickets with a slot for a trial
	until    time.Time // the end of the cool-down; past where there is none
	row      int       // cool-downs in a row
	trial    bool      // the last one was shorter than the registry asked for
}

// open reports whether a transfer may begin.
func (l *limit) open(now time.Time) bool {
	return !now.Before(l.until) && (!l.trial || l.trials == 0)
}

// endTrial ends the trial that a ticket's slot was given for, if it has not been
// refused. The queue's lock is held.
func (t *Ticket) endTrial() {
	if !t.trial {
		return
	}
	t.trial = false
	t.limit.trials--
	if !time.Now().Before(t.limit.until) {
		t.limit.trial = false
	}
}

// Answered says that the ticket's registry gives what it was asked for: others need
// not wait for the end of the transfer.
func (t *Ticket) Answered() {
	q := t.queue
	q.mu.Lock()
	t.endTrial()
	granted := q.assign()
	q.mu.Unlock()
	tell(granted)
}

// Served says that the ticket's registry has served a transfer.
func (t *Ticket) Served() {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.limit.row = 0
}

// CoolDown begins a cool-down of the ticket's registry for its identity, of the
// length that the registry asked for or, with 0, of our own. It returns how long
// is left. Transfers that were refused together begin one, not one each.
func (t *Ticket) CoolDown(asked time.Duration) time.Duration {
	until, waiting := t.lengthen(asked)
	for _, other := range waiting {
		other.cooling(until)
	}
	return time.Until(until).Round(time.Millisecond)
}

// lengthen begins a cool-down, or makes it longer. It returns its end, and the
// tickets that are to be told of it.
func (t *Ticket) lengthen(asked time.Duration) (until time.Time, waiting []*Ticket) {
	q, l := t.queue, t.limit
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	left := l.until.Sub(now)
	length := min(asked, longestCoolDown)
	if asked <= 0 {
		length = min(leastCoolDown<<min(l.row, 16), mostCoolDown)
		if left > 0 {
			return l.until, nil
		}
	}
	// Refusals of requests that ran together confirm nothing.
	trial := length > mostUnconfirmed && (l.row == 0 || left > 0)
	if trial {
		length = mostUnconfirmed
	}
	if length <= left || left > 0 && l.trial {
		return l.until, nil
	}
	if left <= 0 {
		l.row++
		q.coolDowns++
	}
	l.until, l.trial = now.Add(length), trial
	// The timer needs no stopping: at worst it finds nothing to hand out.
	time.AfterFunc(length, func() {
		q.mu.Lock()
		granted := q.assign()
		q.forget(l)
		q.mu.Unlock()
		tell(granted)
	})
	return l.until, q.tickets(l)
}
