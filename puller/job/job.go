// Package job holds one job: its state, what its readers are told, and its end.
// What the job does is its Work.
package job

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/tracing"
	"github.com/towline/towline/stream"
)

// Work is what a job does. Its methods are called without a lock.
type Work interface {
	// Begin has the work done. It is called once, when the job is accepted, but not
	// for a prewarm's child: its parent sees to it.
	Begin()
	// Leave ends the work before its time, for the reason err. It calls Job.Finish,
	// at once or later. It returns false, and does nothing, if the work has come to
	// its end by itself or by another call. It may be called from anywhere.
	Leave(err error) bool
	// Describe fills in what the job says of its work while it has not ended.
	Describe(v *puller.Job)
	// Record fills in what a restart needs of the work. ended says that the job
	// has ended or is about to.
	Record(r *store.Record, ended bool)
	// Settled is called once, when the job has ended and its readers are told.
	Settled()
}

// Env is what all jobs of a daemon share.
type Env struct {
	// Context ends when the daemon does.
	Context context.Context
	// Events numbers what jobs tell, and tells it to readers of all jobs.
	Events *stream.EventLog
	// Changed is called when an accepted job has changed and is to be saved, with
	// its lock held: it must not wait, nor call the job. ending says that readers
	// wait for it.
	Changed func(j *Job, ending bool)
	// Log gets a line when a job becomes active.
	Log logrus.FieldLogger
}

// Request is what a job is made of.
type Request struct {
	View    puller.Job    // with the kind and what was asked for
	Timeout time.Duration // from when the job is active; 0 is without limit

	Caller         string
	IdempotencyKey string // as it is kept; "" for none
	Fingerprint    []byte // of what was asked for
	Private        bool   // the request came with credentials
	// Secrets takes the request's credentials out of what the job tells.
	Secrets *redact.Redactor
	// Events are what the job's readers were told before a restart.
	Events []puller.Event
}

// Job is a job with what drives it. Its lock is taken before those of its topic and
// of the event log. Its methods may be called from anywhere, but that Accept is
// called once, and Settle by one goroutine.
type Job struct {
	env     *Env
	kept    kept          // it is not changed
	settled chan struct{} // closed when readers are told how the job has ended

	mu       sync.Mutex
	work     Work
	accepted bool
	turn     uint64
	view     puller.Job // what others are told
	history  history
	context  lifetime
	limit    timeLimit
	paused   bool        // the daemon ends; the job goes on at the next start
	outcome  *puller.Job // what it is going to end as, once that is saved
	last     []stream.Frame
}

// kept is what a record has of a request beside the job.
type kept struct {
	caller, key string
	fingerprint []byte
	private     bool
}

// New returns a job that has not been accepted. SetWork is called before anything
// else.
func New(env *Env, r Request) *Job {
	j := &Job{
		env: env, kept: kept{r.Caller, r.IdempotencyKey, r.Fingerprint, r.Private}, settled: make(chan struct{}), view: r.View,
		history: newHistory(env.Events, r), context: lifetime{daemon: tracing.Context(env.Context, r.View.TraceParent)}, limit: timeLimit{length: r.Timeout},
	}
	return j
}

// SetWork says what the job does.
func (j *Job) SetWork(w Work) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.work = w
}

// Work returns what the job does.
func (j *Job) Work() Work {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.work
}

// Reserve gives the job its ID, and a prewarm's child its parent, or a prewarm its
// children. Readers are told the first state once the job is accepted.
func (j *Job) Reserve(id, parent string, children []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.view.ID, j.view.Parent, j.view.Children = id, parent, children
	j.history.publish(func(seq uint64) puller.Event { return puller.StateEvent(seq, &j.view) })
	j.changed()
}

// Accept says that the job is saved. turn is its place in the order of admission.
func (j *Job) Accept(turn uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.accepted, j.turn = true, turn
	j.history.topic.Announce(j.view.About())
}

// ID returns the job's ID, which it has from Reserve on.
func (j *Job) ID() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.view.ID
}

// Turn returns the job's place in the order of admission.
func (j *Job) Turn() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.turn
}

// Topic is what the job's readers are told.
func (j *Job) Topic() *stream.Topic { return j.history.topic }

// Settled is closed when the job has ended and its readers are told.
func (j *Job) Settled() <-chan struct{} { return j.settled }

// Context returns a context that ends with the job, or before it by Abort. Most jobs
// need none: a transfer has its own.
func (j *Job) Context() context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.context.get()
}

// Abort ends the context.
func (j *Job) Abort() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.context.end()
}

// View returns the job as it stands, without what its work describes.
func (j *Job) View() puller.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.view
}

// Snapshot returns the job as it stands.
func (j *Job) Snapshot() puller.Job {
	j.mu.Lock()
	v, work := j.view, j.work
	j.mu.Unlock()
	if !v.State.Ended() {
		work.Describe(&v)
	}
	return v
}

// Record returns the job as it is to be saved.
func (j *Job) Record() store.Record {
	j.mu.Lock()
	k := &j.kept
	r := store.Record{
		Job: j.view, Events: slices.Clip(j.history.events),
		Caller: k.caller, Private: k.private, Key: k.key, Fingerprint: k.fingerprint,
	}
	ended, work := j.outcome != nil, j.work
	if ended {
		r.Job = *j.outcome
	}
	j.mu.Unlock()
	work.Record(&r, ended)
	return r
}

// Touch has the job saved: its work has changed.
func (j *Job) Touch() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changed()
}

// changed has the job saved. A job that has not been accepted is saved then. The
// lock is held.
func (j *Job) changed() {
	if j.accepted {
		j.env.Changed(j, j.outcome != nil)
	}
}
