package puller

import (
	"slices"

	"github.com/sirupsen/logrus"
)

// finish decides what a job ends as: the result, or err. While the Puller
// closes, what fails does so because of that: it goes on at the next start. The
// admission lock is held, and to be given back by unlock.
func (p *Puller) finish(j *job, result Result, err error) {
	switch {
	case j.outcome != nil:
	case err != nil && p.closing:
		j.transfer = nil
	case err == nil && j.run != nil && j.run.image == nil:
		p.contain(j, result)
	default:
		j.decide(result, err)
	}
}

// settle tells a job's readers what it has ended as. The same holds.
func (p *Puller) settle(j *job) {
	if j.view.State.Ended() {
		return
	}
	j.view = *j.outcome
	j.topic.End(j.last...)
	j.last = nil
	if j.batch != nil {
		p.hub.Hide(j.batch.board)
	}
	close(j.done)
	p.drop(j)
	p.meter.ended(&j.view)
	p.lines = append(p.lines, j.line(p.log))
	if j.parent != nil {
		p.childEnded(j)
	}
}

// retire forgets the jobs that ended longest ago, if enough have ended since:
// the store knows them. It returns how many bytes there are of the one that has
// just ended, as it is in memory and, nearly, in the store. The same holds.
func (p *Puller) retire(j *job) int64 {
	j.counted.bytes += int64(j.topic.Size()) // of what there is of it now
	p.recent, p.recentBytes = append(p.recent, j), p.recentBytes+j.counted.bytes
	for len(p.recent) > keepRecent || p.recentBytes > keepRecentBytes {
		p.forget(p.recent[0])
	}
	return j.counted.bytes
}

// forget takes the first of the recent jobs out of memory.
func (p *Puller) forget(j *job) {
	p.recentBytes -= j.counted.bytes
	p.recent = slices.Delete(p.recent, 0, 1)
	delete(p.jobs, j.view.ID)
	if p.keys[j.idempotency] == j {
		delete(p.keys, j.idempotency)
	}
	if i, ok := slices.BinarySearchFunc(p.order, j.view.ID, byID); ok {
		p.order = slices.Delete(p.order, i, i+1)
	}
}

// line is what is logged of a job that has ended.
func (j *job) line(log logrus.FieldLogger) *logrus.Entry {
	v := &j.view
	fields := logrus.Fields{"job": v.ID, "kind": v.Kind, "state": v.State}
	if v.Image != "" {
		fields["image"] = v.Image
	}
	if v.Error != nil {
		fields["error_kind"], fields["error"] = v.Error.Kind, v.Error.Message
	} else {
		fields["source"], fields["seconds"] = v.Result.Source, v.Result.DurationSeconds
	}
	return log.WithFields(fields)
}

// leave ends a job before its time, and the transfer with it if it was the
// transfer's last. It does nothing to a job that has ended.
func (p *Puller) leave(j *job, err error) {
	p.mu.Lock()
	defer p.unlock()
	p.leaveLocked(j, err)
}

func (p *Puller) leaveLocked(j *job, err error) {
	if j.run != nil && j.run.image != nil {
		p.endRun(j, err)
		return
	}
	if t := j.transfer; t != nil {
		if t.lastErr != nil && KindOf(err) == ErrTimeout {
			err = Errorf(ErrTimeout, "%w; the last attempt failed: %v", err, t.lastErr)
		}
		t.detach(j)
	}
	p.finish(j, Result{}, err)
}

// Cancel ends a job as canceled, a prewarm with all its children, and returns
// it. The error is ErrNotFound, or ErrConflict if the job has ended.
func (p *Puller) Cancel(id string) (Job, error) {
	p.mu.Lock()
	j := p.jobs[id]
	switch {
	case j == nil:
	case p.closing:
		p.mu.Unlock()
		return Job{}, errClosing
	case j.outcome == nil && j.batch == nil:
		p.leaveLocked(j, Errorf(ErrCanceled, "%s: canceled", j.view.Image))
		p.unlock()
		return p.settled(j)
	case j.outcome == nil && p.cancelAll(j):
		p.unlock()
		return p.settled(j)
	}
	p.mu.Unlock()
	if j != nil {
		if v, err := p.settled(j); err != nil {
			return v, err
		}
	}
	v, err := p.Job(id)
	if err != nil {
		return Job{}, err
	}
	return Job{}, Errorf(ErrConflict, "job %s has already ended: it is %s", id, v.State)
}

// settled waits until a job that ends has ended.
func (p *Puller) settled(j *job) (Job, error) {
	select {
	case <-j.done:
	case <-p.ledger.done:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !j.view.State.Ended() {
		return Job{}, errClosing
	}
	return j.snapshot(), nil
}
