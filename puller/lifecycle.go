package puller

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/towline/towline/stream"
)

// job is a Job with what drives it. Its fields from ctx on are guarded by
// Puller.mu.
type job struct {
	p           *Puller
	id          string      // from when it is accepted on
	request     PullRequest // of a pull
	key         transferKey // the same
	batch       *batch      // of a prewarm
	run         *run        // of a run
	parent      *job        // of a prewarm's child
	caller      string
	private     bool   // it came with credentials
	orphan      bool   // they were not kept over a restart
	begunBefore bool   // the same: an attempt may have brought its image
	idempotency string // of keyOf; "" for none
	fingerprint []byte // of what was asked for
	counted     amount // in its caller's budget
	topic       *stream.Topic
	accepted    chan struct{} // closed when it is known whether it was
	done        chan struct{} // closed when readers are told how it ended

	ctx      context.Context // of context; nil until it is asked for, as cancel
	cancel   context.CancelFunc
	timer    *time.Timer // ends it when its time is up
	deadline time.Time   // zero for none
	begun    bool        // it was accepted
	wants    bool        // the engine has said that its image is not there
	turn     uint64      // when, in the order of the jobs
	refusal  error       // why it was not
	view     Job         // what others are told
	events   []Event     // the same, as it is kept
	outcome  *Job        // what it is going to end as, once that is on disk
	last     []stream.Frame
	notices  int
	failures int       // attempts that failed while it was part of their transfer
	transfer *transfer // while it is part of one
	secrets  *Redactor // of what was shown for it; nil where nothing was
}

// context returns a context that ends with the job, or before it by abort. Most
// jobs need none: a transfer has its own.
func (j *job) context() context.Context {
	j.p.mu.Lock()
	defer j.p.mu.Unlock()
	j.makeContext()
	return j.ctx
}

// abort ends the context, also for who asks for it only later. The admission lock
// is held, here and below.
func (j *job) abort() {
	j.makeContext()
	j.cancel()
}

func (j *job) makeContext() {
	if j.ctx != nil {
		return
	}
	j.ctx, j.cancel = context.WithCancel(j.p.ctx)
	if j.outcome != nil {
		j.cancel()
	}
}

// snapshot returns the job as it stands.
func (j *job) snapshot() Job {
	v := j.view
	if j.transfer != nil {
		v.Progress, v.Timings = j.transfer.totals.Load(), j.transfer.timings.Load()
	}
	if j.batch != nil && !v.State.Ended() {
		j.batch.describe(&v)
	}
	return j.p.outputs.kept(v)
}

// record returns the job as it is to be kept.
func (j *job) record() Record {
	r := Record{
		Job: j.view, Events: slices.Clip(j.events),
		Caller: j.caller, Private: j.private, Key: j.idempotency, Fingerprint: j.fingerprint,
	}
	if j.outcome != nil {
		r.Job = *j.outcome
	}
	if j.batch != nil {
		r.Prewarm = &Prewarm{FailFast: j.batch.failFast}
		if j.outcome == nil { // else the job says it
			r.Prewarm.Skipped, r.Prewarm.Ended = j.batch.skipped, j.batch.ended()
		}
	} else {
		request := j.request
		request.Credentials = Credentials{}
		r.Pull = &request
	}
	if j.run != nil {
		r.Run = j.run.record()
		if j.outcome != nil { // nothing runs any more
			r.Run.Request = RunRequest{Image: r.Run.Request.Image}
		}
	}
	return r
}

// tell adds a numbered event to what the job's readers are told.
func (j *job) tell(event func(seq uint64) Event) {
	j.topic.Publish(func(seq uint64) stream.Frame {
		e := event(seq)
		j.events = append(j.events, e)
		return e.Frame()
	})
	j.p.ledger.touch(j)
}

// enter moves the job to a state and phase, and tells its readers.
func (j *job) enter(state State, phase Phase, attempt int) {
	v := &j.view
	if j.outcome != nil || v.State == state && v.Phase == phase && v.Attempt == attempt {
		return
	}
	if state == StateActive {
		if v.StartedAt.IsZero() {
			v.StartedAt = time.Now().UTC()
		}
		j.arm()
	}
	v.State, v.Phase, v.Attempt = state, phase, attempt
	j.tell(func(seq uint64) Event { return StateEvent(seq, v) })
}

// arm has the job's time run from now on. That of a prewarm's child does not
// run while it waits for its turn, or the end of a long list would never come.
func (j *job) arm() {
	if j.timer != nil || j.batch != nil {
		return
	}
	timeout := time.Duration(j.request.Timeout)
	limit := Errorf(ErrTimeout, "%s: not done within %s", j.view.Image, timeout)
	j.deadline = time.Now().Add(timeout)
	j.timer = time.AfterFunc(timeout, func() { j.p.leave(j, limit) })
}

// lasts reports whether the job's time is not up within d.
func (j *job) lasts(d time.Duration) bool {
	return j.deadline.IsZero() || time.Until(j.deadline) > d
}

// maxNotices bounds what one job's record keeps of an engine that has much to
// say, or of attempts that fail.
const (
	maxNotices = 100
	maxNotice  = 2 << 10 // bytes
)

func (j *job) notice(message string, wait time.Duration) {
	most := maxNotices + len(j.view.Children)
	switch j.notices++; {
	case j.outcome != nil || j.notices > most:
		return
	case j.notices == most:
		message = "there is more to say than is kept; what follows is left out"
	}
	message = ClipTo(j.secrets.Text(message), maxNotice)
	j.tell(func(seq uint64) Event { return NoticeEvent(seq, j.view.ID, message, wait) })
}

// decide settles what the job ends as: the result, or err. Its readers are told
// when that is on disk.
func (j *job) decide(result Result, err error) {
	last := j.snapshot()
	j.view.Progress, j.view.Timings = last.Progress, last.Timings
	j.transfer = nil
	result, err = j.secrets.Result(result), j.secrets.Error(err)
	v := last
	now := time.Now().UTC()
	v.FinishedAt = now
	v.State, v.Phase = StateSucceeded, ""
	if err == nil || result.Interrupted {
		began := v.StartedAt
		if began.IsZero() { // the image was there: nothing had to be started
			began = v.CreatedAt
		}
		result.DurationSeconds = now.Sub(began).Seconds()
		v.Result = &result
	}
	if err != nil {
		v.Error = NewJobError(err)
		v.State = StateFailed
		if v.Error.Kind == ErrCanceled {
			v.State = StateCanceled
		}
	}
	state, end := StateEvent(j.p.hub.Reserve(), &v), ResultEvent(j.p.hub.Reserve(), &v)
	j.last = []stream.Frame{state.Frame(), end.Frame()}
	end.Result = nil // it is the record's Job
	j.events = append(j.events, state, end)
	j.outcome = &v
	j.request.Credentials = Credentials{} // nobody needs them any more
	if j.timer != nil {
		j.timer.Stop()
	}
	if j.cancel != nil {
		j.cancel()
	}
	j.p.ledger.touch(j)
}

// maxMessage bounds what is kept of an engine's words for an error, in bytes.
const maxMessage = 4 << 10

func NewJobError(err error) *JobError {
	e := &JobError{Kind: KindOf(err), Message: err.Error()}
	e.Message = ClipTo(e.Message, maxMessage)
	e.Retryable = e.Kind.Retryable()
	var known *Error
	if errors.As(err, &known) {
		e.RetryAfterSeconds = known.RetryAfter.Seconds()
	}
	return e
}
