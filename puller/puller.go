package puller

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
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

	// Runs is how many containers run at a time, at least 1. Instance tells this
	// daemon's from those of others at the engine; it is the same after a
	// restart.
	Runs     int
	Instance string
	// OutputDir is where runs' output is kept, up to OutputLimit bytes of each:
	// of more, the end.
	OutputDir   string
	OutputLimit int64
	// Store keeps the jobs. The Puller does not close it.
	Store Store
	// KeepFor is how long ended jobs are kept, and KeepJobs how many of them; 0
	// is without limit.
	KeepFor  time.Duration
	KeepJobs int
	// Registry is asked for what Newer wants to know; nil for none.
	Registry Registry
	Log      logrus.FieldLogger
	Metrics  prometheus.Registerer // nil for none
}

const (
	// keepRecent is how many ended jobs stay in memory: who asks for one soon
	// after its end is told of its layers too, which the store does not keep.
	keepRecent = 100
	// maxUnended is how many jobs may be queued or active.
	maxUnended = 20_000
	// maxChecks is how many jobs may ask the engine at a time whether their
	// image is there. An inspect takes under a millisecond.
	maxChecks = 16
	// lastMoment is how long Close waits for the store though its time is up.
	lastMoment = 2 * time.Second
)

// A Puller takes jobs and drives the engine for them. Its methods may be
// called from anywhere.
type Puller struct {
	engine   Engine
	store    Store
	opts     Options
	log      logrus.FieldLogger
	seq      stream.Sequence
	queue    *queue
	meter    *meter
	advance  lastAdvance
	checks   chan struct{} // a semaphore
	runs     chan struct{} // the same
	sweeping atomic.Bool   // a sweep is to come
	silent   atomic.Int64  // when the engine last did not answer, 0 if it has since
	key      []byte        // of this start, for Credentials.identity
	ctx      context.Context
	stop     context.CancelCauseFunc
	work     sync.WaitGroup

	mu        sync.Mutex // the admission lock
	closing   bool
	jobs      map[string]*job // those that have not ended, or not on disk, and recent
	order     []*job          // the same, by ID, which is by the time of admission
	keys      map[string]*job // the same, by idempotency key, and those to be accepted
	recent    []*job          // the last that have ended, in that order
	unended   int
	turns     uint64 // jobs that were enlisted
	transfers map[transferKey]*transfer
	lastMS    uint64 // the time in the last job's ID
	entropy   *ulid.MonotonicEntropy
	lines     []*logrus.Entry // to be logged by unlock
	ledger    ledger
}

// New returns a Puller that drives the engine and goes on with what the store
// says had not ended. Close ends it. The error is the store's, which must be
// readable and writable.
func New(engine Engine, opts Options) (*Puller, error) {
	p := &Puller{
		engine:    engine,
		store:     opts.Store,
		opts:      opts,
		log:       opts.Log,
		queue:     newQueue(opts.Concurrency, opts.PerRegistry),
		meter:     newMeter(opts.Metrics),
		checks:    make(chan struct{}, maxChecks),
		runs:      make(chan struct{}, max(1, opts.Runs)),
		key:       make([]byte, 32),
		jobs:      make(map[string]*job),
		keys:      make(map[string]*job),
		transfers: make(map[transferKey]*transfer),
		entropy:   ulid.Monotonic(rand.Reader, 0),
		ledger:    newLedger(),
	}
	p.advance.start = time.Now()
	rand.Read(p.key) // never fails
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	if err := p.restore(); err != nil {
		return nil, err
	}
	go p.keepBooks()
	if opts.Instance != "" {
		p.work.Go(p.sweep)
	}
	return p, nil
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
	close(j.done)
	p.unended--
	p.meter.ended(&j.view)
	p.lines = append(p.lines, j.line(p.log))
	if j.parent != nil {
		p.childEnded(j)
	}
}

// retire forgets the job that ended longest ago, if enough have ended since:
// the store knows it. The same holds.
func (p *Puller) retire(j *job) {
	p.recent = append(p.recent, j)
	if len(p.recent) <= keepRecent {
		return
	}
	j = p.recent[0]
	p.recent = append(p.recent[:0], p.recent[1:]...)
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

// live returns a job that is in memory, or nil.
func (p *Puller) live(id string) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs[id]
}

// kept returns the record of a job that is not in memory, or NotFound.
func (p *Puller) kept(id string) (Record, error) {
	if _, err := ulid.ParseStrict(id); err != nil {
		return Record{}, errNoJob(id)
	}
	r, err := p.store.Record(id)
	if KindOf(err) == NotFound || err == nil && !r.Job.State.Ended() {
		return Record{}, errNoJob(id) // or it is about to be accepted
	}
	return r, err
}

// Job returns a job as it stands, or NotFound.
func (p *Puller) Job(id string) (Job, error) {
	p.mu.Lock()
	if j := p.jobs[id]; j != nil {
		defer p.mu.Unlock()
		return j.snapshot(), nil
	}
	p.mu.Unlock()
	r, err := p.kept(id)
	return r.Job, err
}

// Cancel ends a job as canceled, a prewarm with all its children, and returns
// it. The error is NotFound, or Conflict if the job has ended.
func (p *Puller) Cancel(id string) (Job, error) {
	p.mu.Lock()
	j := p.jobs[id]
	switch {
	case j == nil:
	case p.closing:
		p.mu.Unlock()
		return Job{}, errClosing
	case j.outcome == nil && j.batch == nil:
		p.leaveLocked(j, Errorf(Canceled, "%s: canceled", j.view.Image))
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
	return Job{}, Errorf(Conflict, "job %s has already ended: it is %s", id, v.State)
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

// Wait returns the job when it has ended. If ctx ends first, Wait returns the
// job as it stands and ctx's error, and if the Puller closes, Overloaded; the
// job goes on.
func (p *Puller) Wait(ctx context.Context, id string) (Job, error) {
	j := p.live(id)
	if j == nil {
		return p.Job(id)
	}
	var err error
	select {
	case <-j.done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.ledger.done:
		err = errPaused(id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.view.State.Ended() {
		err = nil
	}
	return j.snapshot(), err
}

func errPaused(id string) error {
	return Errorf(Overloaded, "towline is shutting down; job %s goes on when it is back", id)
}

// Watch returns what the readers of a job are told: its present state and what
// follows. With since, it is what came after that number. The error is
// NotFound.
func (p *Puller) Watch(id string, since *uint64) ([]stream.Frame, *stream.Subscription, error) {
	var topic *stream.Topic
	if j := p.live(id); j != nil {
		topic = j.topic
	} else {
		r, err := p.kept(id)
		if err != nil {
			return nil, nil, err
		}
		topic = stream.NewTopic(&p.seq)
		if r.Run != nil {
			p.play(topic, id)
		}
		topic.End(r.frames()...)
	}
	var frames []stream.Frame
	var sub *stream.Subscription
	if since != nil {
		frames, sub = topic.Resume(*since)
	} else {
		frames, sub = topic.Subscribe()
	}
	return frames, sub, nil
}

// Engine asks the engine what it is. Where it does not answer, only what is
// known is filled in, and the error says why.
func (p *Puller) Engine(ctx context.Context) (EngineInfo, error) { return p.engine.Info(ctx) }

// Close takes no more jobs, ends the streams of those there are, aborts their
// transfers, and waits for everything it started, or for ctx. Jobs that have
// not ended go on with the next Puller that is given the store. However little
// time ctx leaves, the store has a moment (lastMoment) to take the last of the
// changes; a Save that hangs is left behind with what waits for it, and what it
// was to write is as after a crash.
func (p *Puller) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closing
	p.closing = true
	if !again {
		for _, j := range p.order {
			p.pause(j)
		}
	}
	p.unlock()
	p.stop(errClosing)
	worked := make(chan struct{})
	go func() {
		p.work.Wait()
		close(worked)
	}()
	var err error
	select {
	case <-worked:
	case <-ctx.Done():
		err = errors.New("transfers were still being aborted")
	}
	if !again {
		close(p.ledger.quit)
	}
	select {
	case <-p.ledger.done:
		return err
	case <-ctx.Done():
	}
	select {
	case <-p.ledger.done:
	case <-time.After(lastMoment):
		err = errors.New("the store was still writing")
	}
	return err
}

// pause tells a job's readers that it goes on later, and ends their streams.
func (p *Puller) pause(j *job) {
	if j.outcome != nil {
		return // they are about to be told more
	}
	if j.timer != nil {
		j.timer.Stop()
	}
	j.notice("towline is shutting down; the job goes on when it is back", 0)
	j.topic.End()
}
