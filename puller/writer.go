package puller

import (
	"cmp"
	"math"
	"time"
)

// keepBooks writes until quit, and then what is left.
func (p *Puller) keepBooks() {
	defer close(p.ledger.done)
	p.prune()
	p.dropOutputs() // a crash may have come between the two
	hourly := time.NewTicker(pruneEvery)
	defer hourly.Stop()
	defer p.ledger.again.Stop()
	defer p.ledger.wait.Stop()
	for {
		select {
		case <-p.ledger.wake:
			p.gather()
			p.write()
		case <-p.ledger.again.C:
			p.write()
		case <-hourly.C:
			p.prune()
		case <-p.ledger.quit:
			p.write()
			p.write() // what was just accepted was told that it goes on later
			// Nothing is numbered any more, so nothing need be set aside.
			if err := p.saveTo(p.seq.Last(), nil); err != nil {
				p.log.WithError(err).Error("the last of the jobs' changes could not be written")
			}
			return
		}
	}
}

// gather waits for those whose jobs the last Save took: under load they come
// back at once with the next, and then all share one Save. The wait ends when
// as much time has passed as that Save took. Where each comes alone there is
// none.
func (p *Puller) gather() {
	l := &p.ledger
	p.mu.Lock()
	wait := time.Until(l.until)
	if n := len(l.entries); n == 0 || n >= l.expected || wait <= 0 {
		p.mu.Unlock()
		return
	}
	l.crowd = l.expected
	p.mu.Unlock()
	l.wait.Reset(wait)
	select {
	case <-l.wake:
	case <-l.wait.C:
	case <-l.quit:
	}
	p.mu.Lock()
	l.crowd = 0
	p.mu.Unlock()
}

// write saves what is to be saved, and tells who waits for that.
func (p *Puller) write() {
	l := &p.ledger
	p.mu.Lock()
	entries, changed, fault := l.entries, l.changed, l.fault
	l.entries, l.changed, l.due = nil, make(map[*job]struct{}), false
	fresh := 0
	for _, e := range entries {
		fresh += len(e.jobs)
	}
	records := make([]Record, 0, fresh+len(changed))
	for _, e := range entries {
		for _, j := range e.jobs {
			records = append(records, j.record())
		}
	}
	var ending []*job
	for j := range changed {
		records = append(records, j.record())
		if j.outcome != nil {
			ending = append(ending, j)
		}
	}
	p.mu.Unlock()
	if len(records) == 0 && fault == nil {
		for _, e := range entries { // of sync: it is all on disk already
			e.done <- nil
		}
		return
	}

	began := time.Now()
	var err error
	if fault != nil && fresh > 0 {
		err = p.save(nil) // room for new ones is more than what the file has to spare
	}
	if err == nil {
		err = p.save(records)
	}
	refused := err
	if err != nil && fresh > 0 {
		// A full disk may still have room for how known jobs have changed.
		for _, e := range entries {
			e.done <- err
		}
		entries = nil
		if fresh < len(records) {
			err = p.save(records[fresh:])
		}
	}
	if refused == nil && fault != nil && fresh == 0 && len(records) > 0 {
		refused = p.save(nil) // that there was room for these says nothing of new ones
	}

	p.mu.Lock()
	l.expected = len(entries) + len(l.entries)
	l.until = time.Now().Add(min(time.Since(began), longestGather))
	for _, e := range entries {
		// Here, so that there is no time when they are only on disk.
		p.enlist(e.jobs)
		p.begin(e.jobs)
		for _, j := range e.jobs {
			if j.outcome != nil {
				ending = append(ending, j)
			}
		}
	}
	for _, j := range ending {
		// Those who wait are told even if it could not be written: what they
		// wait for is so. Only a crash before it is written would undo it.
		p.settle(j)
		if err == nil {
			l.ended++
			l.endedBytes += p.retire(j)
		}
	}
	if err != nil {
		for j := range changed {
			l.changed[j] = struct{}{}
		}
	}
	if l.fault = refused; refused != nil {
		l.again.Reset(saveAgain)
	}
	p.unlock()
	for _, e := range entries {
		e.done <- nil
	}
	if most := p.opts.KeepBytes; l.ended >= pruneAfter || most > 0 && l.endedBytes > most/8 {
		p.prune()
	}
	p.logFault(fault, refused)
}

// save writes records, and sets numbers aside.
func (p *Puller) save(records []Record) error {
	reserved := p.ledger.reserved
	if last := p.seq.Last(); last+seqBlock/2 > reserved {
		reserved = last + seqBlock
	}
	return p.saveTo(reserved, records)
}

// saveTo writes records and the number up to which numbers are set aside.
func (p *Puller) saveTo(seq uint64, records []Record) error {
	err := p.store.Save(seq, records)
	if err == nil {
		p.ledger.reserved = seq
	}
	return err
}

// logFault tells of the store when it begins to fail, and when it is well.
func (p *Puller) logFault(before, now error) {
	switch {
	case now != nil && before == nil:
		p.log.WithError(now).Error("jobs can't be written to the store; new ones are refused until they can")
	case now == nil && before != nil:
		p.log.Info("jobs can be written to the store again")
	}
}

// prune drops ended jobs that are kept no longer.
func (p *Puller) prune() {
	p.ledger.ended, p.ledger.endedBytes = 0, 0
	var before time.Time
	if p.opts.KeepFor > 0 {
		before = time.Now().Add(-p.opts.KeepFor)
	}
	n, err := p.store.Prune(before, cmp.Or(p.opts.KeepJobs, math.MaxInt), cmp.Or(p.opts.KeepBytes, math.MaxInt64))
	if err != nil {
		p.log.WithError(err).Error("old jobs could not be dropped from the store")
	} else if n > 0 {
		p.dropOutputs()
		p.log.WithField("jobs", n).Debug("old jobs dropped from the store")
	}
}
