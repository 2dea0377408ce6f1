package jobs

import (
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/jobs/table"
	"github.com/towline/towline/puller/prewarm"
	"github.com/towline/towline/puller/store"
)

const (
	// lazySave is how long a change may wait to be saved if nobody waits for it:
	// states and notices. A crash loses no more of them.
	lazySave = 100 * time.Millisecond
	// saveAgain is the time between two tries to save what could not be.
	saveAgain = time.Second
	// seqBlock is how many numbers are set aside in the store at a time: after a
	// crash they go on above what can have been given.
	seqBlock = 1 << 24
)

// writer saves jobs. One goroutine, run, saves: what has come meanwhile shares one
// Save. Its lock is taken after that of a job.
type writer struct {
	s    *Service
	wake chan struct{} // there is something to save
	quit chan struct{} // closed when this is the last of it
	done chan struct{} // closed when it has been saved

	mu       sync.Mutex
	requests []request
	changed  map[*job.Job]struct{}
	due      bool // changed is going to be saved soon
	fault    error

	// Of run:
	again      *time.Timer // tries to save what could not be
	reserved   uint64      // numbers up to this are set aside
	ended      int         // jobs that ended since the store was pruned
	endedBytes int64       // the same, as Table.Retire counts
}

// request asks for jobs to be accepted, all or none. One without jobs asks only to be
// told when what had changed before it is on disk.
type request struct {
	entries []*table.Entry
	done    chan error
}

func newWriter(s *Service) *writer {
	return &writer{
		s: s, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		changed: make(map[*job.Job]struct{}), again: time.NewTimer(saveAgain),
	}
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// touch has a job saved that has changed: soon, and at once when readers wait for it
// because it is to end. It is job.Env.Changed.
func (w *writer) touch(j *job.Job, ending bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed[j] = struct{}{}
	switch {
	case ending:
		w.signal()
	case !w.due:
		w.due = true
		time.AfterFunc(lazySave, w.signal)
	}
}

// save waits until jobs are accepted, or returns why they are not.
func (w *writer) save(entries []*table.Entry) error {
	r := request{entries, make(chan error, 1)}
	w.mu.Lock()
	w.requests = append(w.requests, r)
	w.mu.Unlock()
	w.signal()
	var err error
	select {
	case err = <-r.done:
	case <-w.done:
		select {
		case err = <-r.done: // with the last of it
		default:
			return table.ErrClosing // it came after that
		}
	}
	if err != nil {
		return errNotSaved(err)
	}
	return nil
}

// sync waits until what has changed is on disk, or could not be saved.
func (w *writer) sync() { w.save(nil) }

// failure returns why nothing can be saved, as far as it is known, or nil.
func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fault
}

func errNotSaved(err error) error {
	return puller.Errorf(puller.ErrOverloaded, "the job could not be written to the store, so it was not accepted: %w", err)
}

// run saves until quit, and then what is left.
func (w *writer) run() {
	defer close(w.done)
	w.prune()
	w.dropOutputs() // a crash may have come between the two
	hourly := time.NewTicker(pruneEvery)
	defer hourly.Stop()
	defer w.again.Stop()
	for {
		select {
		case <-w.wake:
			w.flush()
		case <-w.again.C:
			w.flush()
		case <-hourly.C:
			w.prune()
		case <-w.quit:
			w.flush()
			w.flush() // what was just accepted was told that it goes on later
			// Nothing is numbered any more, so nothing need be set aside.
			if err := w.saveTo(w.s.numbers.Last(), nil); err != nil {
				w.s.log.WithError(err).Error("the last of the jobs' changes could not be written")
			}
			return
		}
	}
}

// flush saves what is to be saved, and answers the requests for it.
func (w *writer) flush() {
	w.mu.Lock()
	requests, changed, fault := w.requests, w.changed, w.fault
	w.requests, w.changed, w.due = nil, make(map[*job.Job]struct{}), false
	w.mu.Unlock()
	var records []store.Record
	var ending []*job.Job
	record := func(j *job.Job) {
		r := j.Record()
		records = append(records, r)
		if r.Job.State.Ended() {
			ending = append(ending, j)
		}
	}
	for _, r := range requests {
		for _, e := range r.entries {
			record(e.Job)
		}
	}
	fresh, freshEnding := len(records), len(ending)
	for j := range changed {
		record(j)
	}
	if len(records) == 0 && fault == nil {
		for _, r := range requests { // of sync: it is all on disk already
			r.done <- nil
		}
		return
	}

	var err error
	if fault != nil && fresh > 0 {
		err = w.store(nil) // room for new ones is more than what the file has to spare
	}
	if err == nil {
		err = w.store(records)
	}
	refused := err
	if err != nil && fresh > 0 {
		w.mu.Lock()
		w.fault = refused // before the callers know: they may ask Ready
		w.mu.Unlock()
		// A full disk may still have room for how known jobs have changed.
		for _, r := range requests {
			r.done <- err
		}
		requests, ending = nil, ending[freshEnding:]
		if fresh < len(records) {
			err = w.store(records[fresh:])
		}
	}
	if refused == nil && fault != nil && fresh == 0 && len(records) > 0 {
		refused = w.store(nil) // that there was room for these says nothing of new ones
	}

	for _, r := range requests {
		// Before they have ended, so that there is no time when they are only on disk.
		w.begin(r.entries)
	}
	for _, j := range ending {
		// Readers are told even if the end could not be saved: the job has ended. Only a
		// crash before it is saved would undo that.
		w.settle(j, err == nil)
	}
	w.mu.Lock()
	if err != nil {
		for j := range changed {
			w.changed[j] = struct{}{}
		}
	}
	if w.fault = refused; refused != nil {
		w.again.Reset(saveAgain)
	}
	w.mu.Unlock()
	for _, r := range requests {
		r.done <- nil
	}
	if most := w.s.opts.KeepBytes; w.ended >= pruneAfter || most > 0 && w.endedBytes > most/8 {
		w.prune()
	}
	w.logFault(fault, refused)
}

// store saves records, and sets numbers aside.
func (w *writer) store(records []store.Record) error {
	reserved := w.reserved
	if last := w.s.numbers.Last(); last+seqBlock/2 > reserved {
		reserved = last + seqBlock
	}
	return w.saveTo(reserved, records)
}

// saveTo saves records and the number up to which numbers are set aside.
func (w *writer) saveTo(seq uint64, records []store.Record) error {
	began := time.Now()
	err := w.s.store.Save(seq, records)
	w.s.metrics.saving.Observe(time.Since(began).Seconds())
	if err == nil {
		w.reserved = seq
	}
	return err
}

// logFault logs when the store begins to fail, and when it takes jobs again.
func (w *writer) logFault(before, now error) {
	switch {
	case now != nil && before == nil:
		w.s.log.WithError(now).Error("jobs can't be written to the store; new ones are refused until they can")
	case now == nil && before != nil:
		w.s.log.Info("jobs can be written to the store again")
	}
}

// begin makes jobs that are on disk known, and begins their work. When the Service
// closes, the next start begins it.
func (w *writer) begin(entries []*table.Entry) {
	closing := w.s.table.Accept(entries)
	for _, e := range entries {
		w.s.metrics.unended.Inc()
		if p, ok := e.Work().(*prewarm.Prewarm); ok {
			p.Show()
		}
		e.Announce()
	}
	for _, e := range entries {
		switch {
		case e.Ending(): // the image was there
		case closing:
			e.Pause()
		case !e.Child: // else its parent sees to it
			e.Work().Begin()
		}
	}
}
