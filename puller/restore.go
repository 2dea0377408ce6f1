package puller

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/towline/towline/stream"
)

// restore takes up what the store holds. It is called before anything else.
func (p *Puller) restore() error {
	last, unended, err := p.store.Load()
	if err != nil {
		return fmt.Errorf("load the jobs: %w", err)
	}
	p.seq.Start(last)
	p.hub = stream.NewEventLog(&p.seq, keptEvents)
	p.recall(last, unended)
	newest, err := p.store.Ended(Filter{Limit: 1})
	if err != nil {
		return fmt.Errorf("load the jobs: %w", err)
	}
	for _, v := range newest {
		p.above(v.ID)
	}
	var jobs []*job
	p.mu.Lock()
	for _, r := range unended {
		p.above(r.Job.ID)
		j := p.revive(r)
		if j.run != nil {
			p.reopenOutput(j)
		}
		jobs = append(jobs, j)
	}
	for _, j := range jobs {
		p.hold(j)
	}
	p.enlist(jobs)
	p.mu.Unlock()
	// Without numbers set aside nothing can begin: the next start would give the
	// same ones again.
	fault := p.save(nil)
	if fault != nil && KindOf(fault) != ErrNoSpace {
		return fmt.Errorf("write to the store: %w", fault)
	}
	if fault != nil {
		p.startFull(unended, fault)
	}

	p.mu.Lock()
	defer p.unlock()
	p.ledger.fault = fault
	for i, r := range unended {
		if r.Prewarm != nil {
			p.reunite(jobs[i], *r.Prewarm)
		}
	}
	for _, j := range jobs {
		j.enter(StateQueued, "", 0)
		if j.run != nil && j.run.image != nil {
			j.notice("towline has started again, and looks for the container", 0)
		} else {
			j.notice("towline has started again; the job begins anew", 0)
		}
	}
	if len(jobs) > 0 {
		p.log.WithField("jobs", len(jobs)).Info("going on with the jobs that had not ended")
	}
	p.begin(jobs)
	return nil
}

// startFull sets numbers aside though the disk is full: a file has room for how
// known jobs change. Where it has none, numbers go on from the microseconds since
// 1970, which are above all that were given and below those of a later start.
func (p *Puller) startFull(unended []Record, fault error) {
	p.logFault(nil, fault)
	if len(unended) == 0 || p.save(unended) != nil {
		p.seq.Start(max(p.seq.Last(), uint64(time.Now().UnixMicro())))
	}
}

// above makes IDs go on after one.
func (p *Puller) above(id string) {
	if u, err := ulid.ParseStrict(id); err == nil {
		p.lastMS = max(p.lastMS, u.Time()+1)
	}
}

// revive makes a job of its record.
func (p *Puller) revive(r Record) *job {
	j := p.newJob()
	j.id = r.Job.ID
	if r.Pull != nil {
		j.ask(*r.Pull)
	}
	if r.Run != nil {
		j.run = &run{request: r.Run.Request, name: r.Run.Name, container: r.Run.Container, image: r.Run.Image, exit: r.Run.Exit, revived: true, was: r.Job.Phase}
		if e := r.Run.Ending; e != nil {
			j.run.ending = Errorf(e.Kind, "%s", e.Message)
		}
	}
	j.view, j.events = r.Job, r.Events
	j.view.Progress, j.view.Timings = nil, nil
	j.caller, j.private, j.idempotency, j.fingerprint = r.Caller, r.Private, r.Key, r.Fingerprint
	var skipped []Skipped
	if r.Prewarm != nil {
		skipped = r.Prewarm.Skipped
	}
	j.counted = j.count(len(r.Job.Children), skipped)
	j.orphan, j.begunBefore = r.Private, r.Job.State == StateActive
	j.topic = p.hub.Topic(r.Frames()...)
	for _, e := range r.Events {
		if e.Type == "notice" {
			j.notices++
		}
	}
	if j.idempotency != "" {
		p.keys[j.idempotency] = j
	}
	return j
}

// Frames returns what the job's readers were told.
func (r *Record) Frames() []stream.Frame {
	frames := make([]stream.Frame, len(r.Events))
	for i, e := range r.Events {
		if e.Type == "result" {
			e.Result = &r.Job
		}
		frames[i] = e.Frame()
	}
	return frames
}

// reunite makes a prewarm of a job and its children, those that have ended too.
func (p *Puller) reunite(parent *job, w Prewarm) {
	children := make([]*job, len(parent.view.Children))
	for i, id := range parent.view.Children {
		if j := p.jobs[id]; j != nil {
			children[i], j.parent = j, parent
		}
	}
	b := p.newBatch(w, children)
	known := make(map[string]ImageState)
	for _, s := range w.Ended {
		known[s.Job] = s
	}
	for i, id := range parent.view.Children {
		if children[i] != nil {
			continue
		}
		b.left--
		if s, ok := known[id]; ok {
			b.images[i] = s
			continue
		}
		r, err := p.store.Record(id)
		if err != nil {
			// It ended so long ago that it is kept no longer, or can't be read.
			r.Job = Job{ID: id, State: StateFailed, Error: NewJobError(Errorf(ErrInternal, "what became of it is not known any more: %w", err))}
		}
		b.images[i] = imageState(&r.Job)
	}
	parent.batch = b
	parent.topic.ShowLatest(b.board)
	p.hub.Show(b.board, parent.about())
}

// adopt decides on a job whose credentials were not kept over a restart: it has
// succeeded if its image is there by now, unless it is to be verified that they
// give access to it.
func (p *Puller) adopt(j *job) {
	for wait := leastEngineWait; ; wait = min(2*wait, mostEngineWait) {
		image, err := p.inspect(j.context(), j)
		if err == nil && j.begunBefore {
			p.access.brought(image.ID)
		}
		switch {
		case err == nil && p.absence(image, j.key.wanted()) == nil && !p.opts.VerifyAccess:
			p.mu.Lock()
			p.finish(j, p.resultOf(image, j.key.wanted()), nil)
			p.unlock()
			return
		case KindOf(err) == ErrEngineUnavailable && sleep(j.context(), wait) == nil:
			continue
		}
		p.leave(j, Errorf(ErrDenied, "%s: towline was restarted, and does not keep the credentials that came with the request; ask again", j.key.image))
		return
	}
}

// sleep waits, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
