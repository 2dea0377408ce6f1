package puller

import (
	"context"
	"crypto/rand"
	"errors"
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

	// Rules hold for every caller. Each may have their own beside them.
	Rules Rules
	// VerifyAccess has an image that is there given only to those whose
	// credentials its registry has been seen to let have it.
	VerifyAccess bool
	// MaxPerCaller is how many jobs of one caller may be queued or active; 0 is
	// without limit.
	MaxPerCaller int
	// MaxBytesPerCaller is how many bytes the requests of those jobs may have, with
	// 1 KiB for each image of a prewarm; 0 is without limit.
	MaxBytesPerCaller int64
	// Runs is how many containers run at a time, at least 1.
	Runs int
	// OutputDir is where runs' output is kept, up to OutputLimit bytes of each:
	// of more, the end.
	OutputDir   string
	OutputLimit int64
	// OutputTotal is how many bytes of all runs' output are kept; 0 is without
	// limit. Of more, the output of the runs that ended first is removed, and where
	// runs that go on have all of it, no more are taken.
	OutputTotal int64
	// Store keeps the jobs. The Puller does not close it.
	Store Store
	// KeepFor is how long ended jobs are kept, KeepJobs how many of them, and
	// KeepBytes how many bytes of records; 0 is without limit. For a while there may
	// be some more.
	KeepFor   time.Duration
	KeepJobs  int
	KeepBytes int64
	// Registry is asked for what Newer wants to know; nil for none.
	Registry Registry
	Log      logrus.FieldLogger
	Metrics  prometheus.Registerer // nil for none

	own func() (string, error) // the engine's platform
}

const (
	// keepRecent is how many ended jobs stay in memory: who asks for one soon
	// after its end is told of its layers too, which the store does not keep.
	keepRecent = 100
	// keepRecentBytes bounds their requests and what their readers were told, each
	// of which is in memory about twice.
	keepRecentBytes = 16 << 20
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
	hub      *stream.EventLog
	queue    *queue
	meter    *meter
	access   access
	outputs  *outputs
	proofs   proofCache
	advance  lastAdvance
	checks   chan struct{} // a semaphore
	runs     chan struct{} // the same
	sweeping atomic.Bool   // a sweep is to come
	silent   atomic.Int64  // when the engine last did not answer, 0 if it has since
	key      []byte        // of this start, for Credentials.identity
	ctx      context.Context
	stop     context.CancelCauseFunc
	work     sync.WaitGroup

	mu          sync.Mutex // the admission lock
	closing     bool
	jobs        map[string]*job // those that have not ended, or not on disk, and recent
	order       []*job          // the same, by ID, which is by the time of admission
	keys        map[string]*job // the same, by idempotency key, and those to be accepted
	recent      []*job          // the last that have ended, in that order
	recentBytes int64
	unended     amount
	held        map[string]amount // the same, by caller
	turns       uint64            // jobs that were enlisted
	transfers   map[transferKey]*transfer
	lastMS      uint64 // the time in the last job's ID
	entropy     *ulid.MonotonicEntropy
	lines       []*logrus.Entry // to be logged by unlock
	ledger      ledger
}

// New returns a Puller that drives the engine and goes on with what the store
// says had not ended. Close ends it. The error is the store's, which must be
// readable, and writable unless its disk is full: then new jobs are refused until
// there is space.
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
		held:      make(map[string]amount),
		entropy:   ulid.Monotonic(rand.Reader, 0),
		ledger:    newLedger(),
		outputs:   newOutputs(opts),
	}
	p.opts.own = p.ownPlatform
	p.advance.start = time.Now()
	if err := p.access.open(opts); err != nil {
		return nil, err
	}
	rand.Read(p.key) // never fails
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	p.outputs.scan()
	if err := p.restore(); err != nil {
		return nil, err
	}
	p.outputs.begin()
	go p.keepBooks()
	p.work.Go(p.sweep)
	return p, nil
}

// errClosing is why jobs end when the daemon does.
var errClosing = Errorf(ErrOverloaded, "towline is shutting down; ask again when it is back")

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
	p.queue.stop() // nothing begins any more
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
		defer p.hub.End()
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
