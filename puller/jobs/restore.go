package jobs

import (
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/jobs/table"
	"github.com/towline/towline/puller/prewarm"
	"github.com/towline/towline/puller/pull"
	"github.com/towline/towline/puller/requests"
	"github.com/towline/towline/puller/run"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/tracing"
	"github.com/towline/towline/stream"
)

// Readers of all jobs that come back after a start get the events of so many jobs that
// ended before it, and of so many bytes of records.
const (
	keptEnded      = 250
	keptEndedBytes = 16 << 20
)

// restore makes jobs of what a store holds that had not ended.
type restore struct {
	s       *Service
	records []store.Record
	entries []*table.Entry // of the records
	known   map[string]int // their indexes, by ID
}

// restoreJobs takes up what the store holds: last is the number that Load returned. It is
// called before anything else.
func restoreJobs(s *Service, last uint64, unended []store.Record) error {
	r := restore{s: s, records: unended, known: make(map[string]int)}
	r.recall(last)
	newest, err := s.store.Ended(puller.Filter{Limit: 1})
	if err != nil {
		return fmt.Errorf("load the jobs: %w", err)
	}
	for _, v := range newest {
		s.table.StartAbove(v.ID)
	}
	r.makeJobs()
	r.setWork()
	s.table.Restore(r.entries)
	// Without numbers set aside nothing can begin: the next start would give the same
	// ones again.
	fault := s.writer.store(nil)
	if fault != nil && puller.KindOf(fault) != puller.ErrNoSpace {
		return fmt.Errorf("write to the store: %w", fault)
	}
	if fault != nil {
		r.startFull(fault)
	}
	s.writer.fault = fault
	r.begin()
	return nil
}

// startFull sets numbers aside though the disk is full: a file has room for how known
// jobs change. Where it has none, numbers go on from the microseconds since 1970,
// which are above all that were given and below those of a later start.
func (r *restore) startFull(fault error) {
	s := r.s
	s.writer.logFault(nil, fault)
	if len(r.records) == 0 || s.writer.store(r.records) != nil {
		s.numbers.Start(max(s.numbers.Last(), uint64(time.Now().UnixMicro())))
	}
}

// recall gives the event log what readers were told before a start, as far as it is
// kept, and the prover what was proven. floor is the last number that was given then.
func (r *restore) recall(floor uint64) {
	s := r.s
	var frames []stream.Frame
	var about []*stream.About
	told := uint64(0)
	if s.opts.Told != nil {
		frames, about, told = s.opts.Told()
	}
	ended, err := s.store.Last(keptEnded, keptEndedBytes)
	switch {
	case err != nil:
		s.log.WithError(err).Warn("what was told before is not known to readers of all jobs who come back")
		return
	case len(ended) > 0:
		// Those that ended before it may be there, or not.
		if e := ended[0].Events; len(e) > 0 {
			floor = e[len(e)-1].Seq
		}
	case len(r.records)+len(frames) > 0:
		floor = 0 // none has ended yet
	}
	for _, record := range append(ended, r.records...) {
		s.proofs.Learn(record.Job)
		a := record.Job.About()
		for _, f := range record.Frames() {
			frames, about = append(frames, f), append(about, a)
		}
	}
	s.events.Restore(max(floor, told), frames, about)
}

// makeJobs makes a job of each record, without its work.
func (r *restore) makeJobs() {
	for i := range r.records {
		record := &r.records[i]
		view := record.Job
		view.Progress, view.Timings = nil, nil
		q := job.Request{
			View: view, Caller: record.Caller, IdempotencyKey: record.Key, Fingerprint: record.Fingerprint,
			Private: record.Private, Events: record.Events,
		}
		if record.Pull != nil {
			q.Timeout = time.Duration(record.Pull.Timeout)
		}
		_, span := tracing.Tracer(r.s.opts.Tracer).Start(tracing.Context(r.s.ctx, view.TraceParent), "job "+string(view.Kind)+", resumed")
		r.entries = append(r.entries, table.NewEntry(&r.s.env, q, sizeOf(record), span))
		r.known[view.ID] = i
	}
}

// sizeOf is what a job counts in its caller's budget, in bytes.
func sizeOf(r *store.Record) (size int64) {
	if r.Pull != nil {
		size += requests.PullBytes(r.Pull)
	}
	if r.Run != nil {
		size += requests.RunBytes(&r.Run.Request)
	}
	if r.Prewarm != nil {
		size += prewarmBytes("", len(r.Job.Children), r.Prewarm.Skipped)
	}
	return size
}

// setWork gives the jobs their work, and prewarms their children.
func (r *restore) setWork() {
	for i, record := range r.records {
		if record.Prewarm != nil {
			r.setChildren(r.entries[i], record)
		}
	}
	for i, record := range r.records {
		switch e := r.entries[i]; {
		case record.Prewarm != nil || e.Child:
		case record.Run != nil:
			record.Pull = wanted(record)
			e.SetWork(r.s.runs.Restore(e.Job, record))
		default:
			e.SetWork(pull.New(r.s.pulls, r.pullOptions(i)))
		}
	}
}

// wanted returns what a record's job wants pulled.
func wanted(r store.Record) *puller.PullRequest {
	if r.Pull != nil {
		return r.Pull
	}
	none := 0
	return &puller.PullRequest{Image: r.Job.Image, Platform: r.Job.Platform, Policy: r.Job.Policy, Priority: r.Job.Priority, Retries: &none}
}

func (r *restore) pullOptions(i int) pull.Options {
	record := r.records[i]
	return pull.Options{Job: r.entries[i].Job, Request: *wanted(record), Orphan: record.Private, Begun: record.Job.State == puller.StateActive}
}

// setChildren makes a prewarm of a job and its children, those that have ended too.
func (r *restore) setChildren(parent *table.Entry, record store.Record) {
	w := prewarm.New(r.s.prewarms, parent.Job, len(record.Job.Children), *record.Prewarm)
	parent.SetWork(w)
	ended := make(map[string]puller.ImageState)
	for _, state := range record.Prewarm.Ended {
		ended[state.Job] = state
	}
	for i, id := range record.Job.Children {
		if k, ok := r.known[id]; ok {
			adopt(r.s.pulls, w, i, r.entries[k], r.pullOptions(k))
			continue
		}
		state, ok := ended[id]
		if !ok {
			child, err := r.s.store.Record(id)
			if err != nil {
				// It ended so long ago that it is kept no longer, or can't be read.
				child.Job = puller.Job{ID: id, State: puller.StateFailed, Error: puller.NewJobError(puller.Errorf(puller.ErrInternal, "what became of it is not known any more: %w", err))}
			}
			state = prewarm.ImageState(&child.Job)
		}
		w.SetEnded(i, state)
	}
}

// begin tells the jobs' readers that the jobs go on, and begins their work.
func (r *restore) begin() {
	for _, e := range r.entries {
		notice := "towline has started again; the job begins anew"
		if w, ok := e.Work().(*run.Run); ok && w.HasImage() {
			notice = "towline has started again, and looks for the container"
		}
		e.Enter(puller.StateQueued, "", 0)
		e.Notice(notice, 0)
	}
	if len(r.entries) > 0 {
		r.s.log.WithField("jobs", len(r.entries)).Info("going on with the jobs that had not ended")
	}
	r.s.writer.begin(r.entries)
	for _, e := range r.entries {
		e.Touch()
	}
}
