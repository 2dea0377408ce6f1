package puller

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// A registry that does not say how long to wait is asked again after a
	// time that doubles from the least to the most.
	leastCoolDown = 15 * time.Second
	mostCoolDown  = 15 * time.Minute
	// longestCoolDown bounds what a registry may ask for.
	longestCoolDown = 6 * time.Hour
	// mostUnconfirmed bounds what it may ask for the first time: one header that
	// is wrong must not close it for hours. One transfer tries it then, and only
	// if that is refused too does the registry get what it asks for.
	mostUnconfirmed = 5 * time.Minute
)

// limit is what the queue knows of one registry for one identity: registries
// limit the rate of callers, so what is refused to one may be given to another.
type limit struct {
	host     *host
	identity [sha256.Size]byte
	users    int       // waiters, with or without a slot
	trying   int       // those with a slot for a trial
	until    time.Time // the end of the cool-down; past where there is none
	row      int       // cool-downs in a row
	trial    bool      // the last one was shorter than the registry asked for
}

// open reports whether a transfer may begin.
func (l *limit) open(now time.Time) bool {
	return !now.Before(l.until) && (!l.trial || l.trying == 0)
}

// settleTrial ends the trial that a waiter's slot was given for, if it has not
// been refused. The queue's lock is held.
func (w *waiter) settleTrial() {
	if !w.tries {
		return
	}
	w.tries = false
	w.limit.trying--
	if !time.Now().Before(w.limit.until) {
		w.limit.trial = false
	}
}

// answered notes that a waiter's registry gives it what it asked for: others need
// not wait for its end.
func (w *waiter) answered() {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.settleTrial()
	w.queue.hand()
}

// rateLimited begins the registry's cool-down, of the length that the registry
// itself asks for if it can be asked, and returns err with what is left of it.
func (t *transfer) rateLimited(slot *waiter, err error) error {
	asked := RetryAfterOf(err)
	var refused *refusedError
	if asked == 0 && t.p.opts.Registry != nil && !errors.As(err, &refused) {
		_, refusal := t.p.opts.Registry.Head(t.ctx, t.key.image, t.credentials)
		asked = RetryAfterOf(refusal)
	}
	left := slot.coolDown(asked)
	return &Error{Op: "pull", Ref: t.key.image, Kind: ErrRateLimited, RetryAfter: left, Err: Inner(err)}
}

// refusedError is a ErrRateLimited error that the registry has answered Towline itself.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// coolDown begins a cool-down of a waiter's registry for its identity, of the length
// that the registry asked for or, with 0, of our own. It returns how long is left.
// Transfers that were refused together begin one, not one each.
func (w *waiter) coolDown(asked time.Duration) time.Duration {
	until, begun := w.lengthen(asked)
	if begun {
		w.queue.mu.Lock()
		waiting := w.queue.waitFor(w.limit)
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
	q, l := w.queue, w.limit
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	left := l.until.Sub(now)
	length := min(asked, longestCoolDown)
	if asked <= 0 {
		length = min(leastCoolDown<<min(l.row, 16), mostCoolDown)
		if left > 0 {
			return l.until, false
		}
	}
	// Those that are refused together confirm nothing.
	trial := length > mostUnconfirmed && (l.row == 0 || left > 0)
	if trial {
		length = mostUnconfirmed
	}
	if length <= left || left > 0 && l.trial {
		return l.until, false
	}
	if left <= 0 {
		l.row++
	}
	l.until, l.trial = now.Add(length), trial
	// The timer needs no stopping: at worst it finds nothing to hand over.
	time.AfterFunc(length, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.hand()
		q.forget(l)
	})
	return l.until, true
}

// served notes that a waiter's registry has served a transfer.
func (w *waiter) served() {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	w.limit.row = 0
}

// waitFor returns those who wait for a registry with one identity.
func (q *queue) waitFor(of *limit) (all []*waiter) {
	for key, l := range q.lanes {
		if key.limit != of {
			continue
		}
		for _, w := range l.waiting {
			if w.shares[0] == key.share { // it is in a lane for each
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, func(a, b *waiter) int { return cmp.Compare(a.turn, b.turn) })
	return all
}

// cooling tells that the transfer waits for its registry's cool-down, unless that
// has been told. Jobs whose time is up before its end are not kept waiting for
// nothing.
func (t *transfer) cooling(until time.Time) {
	t.p.mu.Lock()
	defer t.p.unlock()
	wait := time.Until(until).Round(time.Millisecond)
	if t.waiter == nil || t.closed || wait <= 0 || !until.After(t.until) {
		return // it has come to its turn, or its end, since, or waits for longer
	}
	err := errCooling(t.key.image, wait)
	// In one step with who is kept: a job that comes later reads it.
	t.until = until
	if !t.keepLocked(err, func(j *job) bool { return j.lasts(wait) }) {
		t.stop(err)
		return
	}
	for _, j := range t.jobs {
		j.notice(coolingNotice(t.key.image, wait), wait)
	}
}

func errCooling(image string, wait time.Duration) error {
	return &Error{Op: "pull", Ref: image, Kind: ErrRateLimited, RetryAfter: wait,
		Err: fmt.Errorf("the registry limits the rate, for longer (%s) than the job may last", wait.Round(time.Second))}
}

func coolingNotice(image string, wait time.Duration) string {
	return fmt.Sprintf("the registry %s limits the rate; waiting for %s", RegistryOf(image), wait.Round(time.Second))
}
