package puller

import (
	"time"
)

const (
	// lazily is how long a change may wait to be written if nobody waits for
	// it: states and notices. A crash loses no more of them.
	lazily = 100 * time.Millisecond
	// saveAgain is the time between two tries to write what could not be.
	saveAgain  = time.Second
	pruneEvery = time.Hour
	// pruneAfter is how many ended jobs are kept before the store is pruned
	// ahead of its time.
	pruneAfter = 1000
	// longestGather is how long a Save waits at most for others to share it.
	longestGather = 4 * time.Millisecond
	// seqBlock is how many numbers are set aside in the store at a time: after
	// a crash they go on above what can have been given.
	seqBlock = 1 << 24
)

// ledger is what a Puller has yet to write to its store. One goroutine,
// keepBooks, writes: whatever has come together meanwhile shares one Save.
type ledger struct {
	wake chan struct{} // there is something to write
	quit chan struct{} // closed when this is the last of it
	done chan struct{} // closed when it has been written

	// Guarded by Puller.mu:
	entries []*entry
	changed map[*job]struct{}
	due     bool // changed is going to be written soon
	crowd   int  // how many entries are waited for, 0 where nothing is
	fault   error

	// Of keepBooks:
	again      *time.Timer // tries to write what could not be
	wait       *time.Timer // ends the wait for a crowd
	expected   int         // entries that were in the last Save or have come since
	until      time.Time   // how long so many are waited for
	reserved   uint64      // numbers up to this are set aside
	ended      int         // jobs that ended since the store was pruned
	endedBytes int64       // the same, as retire counts
}

// entry asks for jobs to be accepted, all or none. One without jobs asks only
// to be told when what had changed before it is on disk.
type entry struct {
	jobs []*job
	done chan error
}

func newLedger() ledger {
	return ledger{
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		changed: make(map[*job]struct{}), again: time.NewTimer(saveAgain), wait: time.NewTimer(time.Hour),
	}
}

func (l *ledger) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// enter has an entry written. The admission lock is held.
func (l *ledger) enter(e *entry) {
	l.entries = append(l.entries, e)
	l.hurry()
}

// hurry has what there is written at once, unless a crowd is waited for that is
// not complete yet. The admission lock is held.
func (l *ledger) hurry() {
	if len(l.entries) >= l.crowd {
		l.poke()
	}
}

// touch has a job written that has changed: soon, and at once when readers
// wait for it because it is to end. The admission lock is held.
func (l *ledger) touch(j *job) {
	if !j.begun {
		return // it is written when it is accepted
	}
	l.changed[j] = struct{}{}
	switch {
	case j.outcome != nil:
		l.hurry()
	case !l.due:
		l.due = true
		time.AfterFunc(lazily, l.poke)
	}
}

// Ready returns why no job can be accepted now, as far as it is known, or nil.
// It does not ask the engine.
func (p *Puller) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closing:
		return errClosing
	case p.ledger.fault != nil:
		return errUnkept(p.ledger.fault)
	}
	return nil
}

func errUnkept(err error) error {
	return Errorf(ErrOverloaded, "the job could not be written to the store, so it was not accepted: %w", err)
}
