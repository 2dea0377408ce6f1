package table

import "github.com/towline/towline/puller"

// amount is how many jobs there are, and how many bytes their requests have.
type amount struct {
	jobs  int
	bytes int64
}

// What all callers together may have queued or active.
const (
	maxUnended = 20_000
	// maxUnendedBytes bounds the requests of those jobs. They are in memory, which
	// the garbage collector lets become about twice as much, and in the store.
	maxUnendedBytes = 128 << 20
)

// checkBudget returns why a caller may not have more jobs, nil if it may. The lock is
// held, here and below.
func (t *Table) checkBudget(entries []*Entry) error {
	var more amount
	for _, e := range entries {
		more = more.plus(e.counted, 1)
	}
	most, held := t.mostPerCaller, t.held[entries[0].caller]
	switch {
	case most.jobs > 0 && more.jobs > most.jobs:
		return puller.Errorf(puller.ErrInvalidRequest, "images: with its prewarm they are %d jobs, and one caller may have %d; ask for fewer", more.jobs, most.jobs)
	case most.bytes > 0 && more.bytes > most.bytes:
		return puller.Errorf(puller.ErrInvalidRequest, "body: it counts as %d bytes, and the requests of one caller's jobs may have %d together; ask for less at a time", more.bytes, most.bytes)
	case t.unended.jobs+more.jobs > maxUnended:
		return puller.Overloaded("%d jobs are queued or active, and at most %d may be", t.unended.jobs, maxUnended)
	case t.unended.bytes+more.bytes > maxUnendedBytes:
		return puller.Overloaded("the requests of jobs that are queued or active have %d bytes; with this one they would have %d, and at most %d may be", t.unended.bytes, t.unended.bytes+more.bytes, int64(maxUnendedBytes))
	case most.jobs > 0 && held.jobs+more.jobs > most.jobs:
		return puller.Overloaded("%d of the caller's jobs are queued or active, and at most %d may be", held.jobs, most.jobs)
	case most.bytes > 0 && held.bytes+more.bytes > most.bytes:
		return puller.Overloaded("the requests of the caller's jobs that are queued or active have %d bytes; with this one they would have %d, and at most %d may be", held.bytes, held.bytes+more.bytes, most.bytes)
	}
	return nil
}

// hold counts jobs that have not ended.
func (t *Table) hold(entries ...*Entry) { t.count(entries, 1) }

// release is the reverse of hold.
func (t *Table) release(entries ...*Entry) { t.count(entries, -1) }

func (t *Table) count(entries []*Entry, times int) {
	caller := entries[0].caller
	held := t.held[caller]
	for _, e := range entries {
		t.unended, held = t.unended.plus(e.counted, times), held.plus(e.counted, times)
	}
	if t.held[caller] = held; held.jobs == 0 {
		delete(t.held, caller)
	}
}

// plus adds an amount so many times.
func (a amount) plus(b amount, times int) amount {
	return amount{a.jobs + times*b.jobs, a.bytes + int64(times)*b.bytes}
}
