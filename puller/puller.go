package puller

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/stream"
)

// Options are the defaults and limits of a Puller.
type Options struct {
	Concurrency int           // transfers at a time, at least 1
	PerRegistry int           // the same, of one registry; 0 for as many
	Policy      Policy        // of requests that name none
	Retries     int           // the same
	Timeout     time.Duration // the same

	// FirstByteTimeout is how long the engine may take to begin to tell of a
	// pull, and how long a job waits for an engine that does not answer.
	// StallTimeout is how long a download may stand still, ExtractStallTimeout
	// how long extraction may. 0 is without limit.
	FirstByteTimeout, StallTimeout, ExtractStallTimeout time.Duration

	// Registry is asked for what Newer wants to know; nil for none.
	Registry Registry
	Log      logrus.FieldLogger
	Metrics  prometheus.Registerer // nil for none
}

const (
	// keepEnded is how many ended jobs are remembered; the oldest go first.
	keepEnded = 1000
	// maxUnended is how many jobs may be queued or active.
	maxUnended = 20_000
	// maxChecks is how many jobs may ask the engine at a time whether their
	// image is there. An inspect takes under a millisecond.
	maxChecks = 16
)

// A Puller takes jobs and drives the engine for them. Its methods may be
// called from anywhere.
type Puller struct {
	engine  Engine
	opts    Options
	log     logrus.FieldLogger
	seq     stream.Sequence
	queue   *queue
	meter   *meter
	advance lastAdvance
	checks  chan struct{} // a semaphore
	key     []byte        // of this start, for Credentials.identity
	ctx     context.Context
	stop    context.CancelCauseFunc
	work    sync.WaitGroup

	mu        sync.Mutex // the admission lock
	closing   bool
	jobs      map[string]*job
	keys      map[string]*job // by idempotency key
	order     []*job          // by ID, which is by the time of admission
	ended     []*job          // in the order they ended
	unended   int
	transfers map[transferKey]*transfer
	lastMS    uint64 // the time in the last job's ID
	entropy   *ulid.MonotonicEntropy
	lines     []*logrus.Entry // to be logged by unlock
}

// New returns a Puller that drives the engine. Close ends it.
func New(engine Engine, opts Options) *Puller {
	p := &Puller{
		engine:    engine,
		opts:      opts,
		log:       opts.Log,
		queue:     newQueue(opts.Concurrency, opts.PerRegistry),
		meter:     newMeter(opts.Metrics),
		checks:    make(chan struct{}, maxChecks),
		key:       make([]byte, 32),
		jobs:      make(map[string]*job),
		keys:      make(map[string]*job),
		transfers: make(map[transferKey]*transfer),
		entropy:   ulid.Monotonic(rand.Reader, 0),
	}
	p.advance.start = time.Now()
	rand.Read(p.key) // never fails
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	return p
}

// errClosing is why jobs end when the daemon does.
var errClosing = Errorf(Overloaded, "towline is shutting down; ask again when it is back")

// unlock gives the admission lock back, and then logs what was to be logged
// meanwhile: whoever reads the log slowly must not hold up admission.
func (p *Puller) unlock() {
	lines := p.lines
	p.lines = nil
	p.mu.Unlock()
	for _, line := range lines {
		line.Info("job ended")
	}
}

// finish ends a job under the admission lock, which is to be given back by
// unlock.
func (p *Puller) finish(j *job, result Result, err error) {
	if j.view.State.Ended() {
		return
	}
	j.finish(result, err)
	p.unended--
	p.meter.ended(&j.view)
	entry := p.log.WithFields(logrus.Fields{"job": j.view.ID, "image": j.view.Image, "state": j.view.State})
	if err != nil {
		entry = entry.WithFields(logrus.Fields{"kind": KindOf(err), "error": err})
	} else {
		entry = entry.WithFields(logrus.Fields{"source": j.view.Result.Source, "seconds": j.view.Result.DurationSeconds})
	}
	p.lines = append(p.lines, entry)
	p.ended = append(p.ended, j)
	p.forget()
}

// forget drops the jobs above keepEnded that ended first.
func (p *Puller) forget() {
	excess := len(p.ended) - keepEnded
	// Dropping one at a time would move the slices at every end.
	if excess < keepEnded/10 {
		return
	}
	for _, j := range p.ended[:excess] {
		delete(p.jobs, j.view.ID)
		delete(p.keys, j.request.IdempotencyKey)
	}
	p.ended = slices.Delete(p.ended, 0, excess)
	p.order = slices.DeleteFunc(p.order, func(j *job) bool { return p.jobs[j.view.ID] == nil })
}

// leave ends a job before its time, and the transfer with it if it was the
// transfer's last. It does nothing to a job that has ended.
func (p *Puller) leave(j *job, err error) {
	p.mu.Lock()
	defer p.unlock()
	p.leaveLocked(j, err)
}

func (p *Puller) leaveLocked(j *job, err error) {
	if t := j.transfer; t != nil {
		if t.lastErr != nil && KindOf(err) == Timeout {
			err = Errorf(Timeout, "%w; the last attempt failed: %v", err, t.lastErr)
		}
		t.detach(j)
	}
	p.finish(j, Result{}, err)
}

func errNoJob(id string) error {
	return Errorf(NotFound, "job %q is not known; it may have ended long ago", clip(id))
}

// Job returns a job as it stands, or NotFound.
func (p *Puller) Job(id string) (Job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j, ok := p.jobs[id]
	if !ok {
		return Job{}, errNoJob(id)
	}
	return j.snapshot(), nil
}

// Cancel ends a job as canceled and returns it. The error is NotFound, or
// Conflict if the job has ended.
func (p *Puller) Cancel(id string) (Job, error) {
	p.mu.Lock()
	defer p.unlock()
	j, ok := p.jobs[id]
	switch {
	case !ok:
		return Job{}, errNoJob(id)
	case j.view.State.Ended():
		return Job{}, Errorf(Conflict, "job %s has already ended: it is %s", id, j.view.State)
	}
	p.leaveLocked(j, Errorf(Canceled, "%s: canceled", j.view.Image))
	return j.snapshot(), nil
}

// Wait returns the job when it has ended. If ctx ends first, Wait returns the
// job as it stands and ctx's error; the job goes on.
func (p *Puller) Wait(ctx context.Context, id string) (Job, error) {
	p.mu.Lock()
	j, ok := p.jobs[id]
	p.mu.Unlock()
	if !ok {
		return Job{}, errNoJob(id)
	}
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !j.view.State.Ended() {
		return j.snapshot(), ctx.Err()
	}
	return j.snapshot(), nil
}

// Watch returns what the readers of a job are told: its present state and what
// follows. With since, it is what came after that number. The error is
// NotFound.
func (p *Puller) Watch(id string, since *uint64) ([]stream.Frame, *stream.Subscription, error) {
	p.mu.Lock()
	j, ok := p.jobs[id]
	p.mu.Unlock()
	if !ok {
		return nil, nil, errNoJob(id)
	}
	var frames []stream.Frame
	var sub *stream.Subscription
	if since != nil {
		frames, sub = j.topic.Resume(*since)
	} else {
		frames, sub = j.topic.Subscribe()
	}
	return frames, sub, nil
}

// Engine asks the engine what it is. Where it does not answer, only what is
// known is filled in, and the error says why.
func (p *Puller) Engine(ctx context.Context) (EngineInfo, error) { return p.engine.Info(ctx) }

// Close takes no more jobs, ends those there are as Overloaded, aborts their
// transfers and waits for everything it started, or for ctx.
func (p *Puller) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	for _, j := range slices.Clone(p.order) { // ending a job can drop old ones
		p.leaveLocked(j, errClosing)
	}
	p.unlock()
	p.stop(errClosing)
	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("transfers were still being aborted")
	}
}
