package waiting

import (
	"context"
	"time"
)

// Deadline is a timer that is set again and again, mostly long before it fires.
// It is for one goroutine.
type Deadline struct {
	timer *time.Timer
	at    time.Time // when it fires; zero once it has
}

// set returns the channel of a timer that fires at a time, or before. To set it
// later costs nothing: when it fires too early, it is set again.
func (d *Deadline) set(at time.Time) <-chan time.Time {
	switch {
	case d.timer == nil:
		d.timer, d.at = time.NewTimer(time.Until(at)), at
	case d.at.IsZero() || d.at.After(at):
		d.timer.Reset(time.Until(at))
		d.at = at
	}
	return d.timer.C
}

// fired is called with each value of the channel. It reports whether it is the
// time that was asked for.
func (d *Deadline) fired(at time.Time) bool {
	d.at = time.Time{}
	return time.Until(at) <= 0
}

// Wait waits until changed is closed, delay has passed (0 is for ever), or ctx ends.
// It returns true if the deadline at came first.
func (d *Deadline) Wait(ctx context.Context, changed <-chan struct{}, delay time.Duration, at time.Time) bool {
	var due <-chan time.Time
	if delay > 0 {
		due = time.After(delay)
	}
	select {
	case <-changed:
	case <-due:
	case <-d.set(at):
		return d.fired(at)
	case <-ctx.Done():
	}
	return false
}
