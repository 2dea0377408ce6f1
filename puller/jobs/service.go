// Package jobs accepts, keeps, numbers, lists and ends jobs. Its Service is the
// puller.Service of one engine. Jobs are accepted, and told to have ended, only when
// that is on disk.
package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/jobs/table"
	"github.com/towline/towline/puller/prewarm"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/pull"
	"github.com/towline/towline/puller/requests"
	"github.com/towline/towline/puller/run"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream"
)

// Options are the defaults and limits of a Service.
type Options struct {
	Concurrency int           // transfers at a time, at least 1
	PerRegistry int           // the same, of one registry; 0 for as many
	Policy      puller.Policy // of requests that name none
	Retries     int           // the same
	Timeout     time.Duration // the same

	// FirstByteTimeout is how long the engine may take to begin to tell of a pull,
	// and how long a job waits for an engine that does not answer. StallTimeout is
	// how long a download may stand still, ExtractStallTimeout how long extraction
	// may. 0 is without limit.
	FirstByteTimeout, StallTimeout, ExtractStallTimeout time.Duration

	// Rules hold for every caller. Each may have their own beside them.
	Rules puller.Rules
	// VerifyAccess gives an image that is there only to those whose credentials the
	// registry accepts for it.
	VerifyAccess bool
	// MaxPerCaller is how many jobs of one caller may be queued or active; 0 is
	// without limit.
	MaxPerCaller int
	// MaxBytesPerCaller is how many bytes the requests of those jobs may have, with
	// 1 KiB for each image of a prewarm; 0 is without limit.
	MaxBytesPerCaller int64
	// Runs is how many containers run at a time, at least 1.
	Runs int
	// OutputDir is where runs' output is kept, up to OutputLimit bytes of each: of
	// more, the end.
	OutputDir   string
	OutputLimit int64
	// OutputTotal is how many bytes of all runs' output are kept; 0 is without limit.
	// Of more, the output of the runs that ended first is removed. Where runs that go
	// on have all of it, no more are taken.
	OutputTotal int64
	// Store keeps the jobs. The Service does not close it.
	Store store.Store
	// KeepFor is how long ended jobs are kept, KeepJobs how many of them, and
	// KeepBytes how many bytes of records; 0 is without limit. For a while there may
	// be some more.
	KeepFor   time.Duration
	KeepJobs  int
	KeepBytes int64
	// Registry is asked for what an engine can't tell; nil for none.
	Registry puller.Registry
	// Accelerator makes pulls faster; nil for none.
	Accelerator engines.Accelerator
	// Admission is asked before each pull whether there is room; nil for none.
	Admission engines.Admission
	// Told returns the events of no job that an earlier process has told, with what they are
	// about, for readers who come back. Those up to floor may be incomplete. nil for none.
	Told    func() (frames []stream.Frame, about []*stream.About, floor uint64)
	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
	Tracer  trace.Tracer          // nil for none
}

const (
	// lastMoment is how long Close waits for the store though its time is up.
	lastMoment = 2 * time.Second
	// askOwn is how long the engine may take to say what its platform is.
	askOwn = 5 * time.Second
)

// Service takes jobs and drives an engine for them. It implements puller.Service.
type Service struct {
	engine   engines.Engine
	store    store.Store
	opts     Options
	defaults requests.Defaults
	log      logrus.FieldLogger
	metrics  metrics
	numbers  stream.Sequence
	events   *stream.EventLog
	ctx      context.Context
	stop     context.CancelCauseFunc
	work     group

	env      job.Env
	table    *table.Table
	writer   *writer
	proofs   *proof.Prover
	transfer *transfer.Transfers
	pulls    *pull.Env
	prewarms *prewarm.Env
	runs     *run.Runs
	outputs  *run.Outputs
}

var _ puller.Service = (*Service)(nil)

// New returns a Service that drives the engine and goes on with what the store says
// had not ended. Close ends it. The error is the store's, which must be readable, and
// writable unless its disk is full: then new jobs are refused until there is space.
func New(engine engines.Engine, o Options) (*Service, error) {
	last, unended, err := o.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("load the jobs: %w", err)
	}
	s := &Service{
		engine: engine, store: o.Store, opts: o, log: o.Log, metrics: newMetrics(),
		outputs: run.NewOutputs(o.OutputDir, o.OutputLimit, o.OutputTotal, o.Log),
		proofs:  proof.New(engine, o.Registry),
	}
	s.defaults = requests.Defaults{
		Policy: o.Policy, Retries: o.Retries, Timeout: o.Timeout, Rules: o.Rules, VerifyAccess: o.VerifyAccess,
		OwnPlatform: func() (string, error) { return ownPlatform(engine) },
	}
	s.numbers.Start(last)
	s.events = stream.NewEventLog(&s.numbers, keptEvents)
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.table = table.New(o.MaxPerCaller, o.MaxBytesPerCaller)
	s.writer = newWriter(s)
	s.env = job.Env{Context: s.ctx, Events: s.events, Changed: s.writer.touch, Log: s.log}
	if err := s.open(); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		s.metrics.register(o.Metrics, s)
	}
	s.outputs.Scan()
	if err := restoreJobs(s, last, unended); err != nil {
		return nil, err
	}
	s.outputs.Begin()
	go s.writer.run()
	s.work.Go(s.runs.Sweep)
	return s, nil
}

// open makes the rooms that jobs use.
func (s *Service) open() (err error) {
	o := &s.opts
	s.transfer, err = transfer.New(s.ctx, transfer.Options{
		Engine: s.engine, Registry: o.Registry, Prover: s.proofs, Accelerator: o.Accelerator, Admission: o.Admission, Store: s.store, VerifyAccess: o.VerifyAccess,
		Concurrency: o.Concurrency, PerRegistry: o.PerRegistry,
		FirstByteTimeout: o.FirstByteTimeout, StallTimeout: o.StallTimeout, ExtractStallTimeout: o.ExtractStallTimeout,
		Log: s.log, Metrics: o.Metrics, Tracer: o.Tracer, Numbers: &s.numbers, Events: s.events, Go: s.work.Go,
	})
	if err != nil {
		return err
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	s.pulls = &pull.Env{Transfers: s.transfer, Prover: s.proofs, VerifyAccess: o.VerifyAccess, Go: s.work.Go, Key: key}
	s.prewarms = &prewarm.Env{
		Context: s.ctx, Engine: s.engine, Registry: o.Registry, Prover: s.proofs, Concurrency: o.Concurrency,
		Accelerator: o.Accelerator, EngineTimeout: o.FirstByteTimeout, Numbers: &s.numbers, Events: s.events, Go: s.work.Go,
	}
	s.runs = run.New(run.Options{
		Context: s.ctx, Engine: s.engine, Transfers: s.transfer, Prover: s.proofs, Pulls: s.pulls, Instance: s.store.Instance,
		Concurrency: o.Runs, EngineTimeout: o.FirstByteTimeout, Outputs: s.outputs, Sync: s.writer.sync, Ended: s.endedRun,
		Log: s.log, Go: s.work.Go,
	})
	return nil
}

// Events returns the log of the events of all jobs, for those of no job.
func (s *Service) Events() *stream.EventLog { return s.events }

// Engine implements puller.Service.
func (s *Service) Engine(ctx context.Context) (puller.EngineInfo, error) {
	info, err := s.engine.Info(ctx)
	if s.opts.Accelerator != nil {
		state := s.opts.Accelerator.State()
		info.Accelerator = &state
	}
	return info, err
}

// Queue implements puller.Service.
func (s *Service) Queue() puller.QueueState { return s.transfer.Queue() }

// ownPlatform asks the engine for its platform.
func ownPlatform(engine engines.Engine) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askOwn)
	defer cancel()
	info, err := engine.Info(ctx)
	if err == nil && info.Platform == "" {
		err = errors.New("it does not say what it is")
	}
	if err != nil {
		return "", puller.Errorf(puller.ErrEngineUnavailable, "platform: the engine can't be asked for the other half of it; write os/arch: %w", puller.Inner(err))
	}
	return info.Platform, nil
}

// Ready implements puller.Service.
func (s *Service) Ready() error {
	if s.table.IsClosing() {
		return table.ErrClosing
	}
	if fault := s.writer.failure(); fault != nil {
		return puller.Errorf(puller.ErrOverloaded, "jobs can't be written to the store, so no new ones are accepted: %w", fault)
	}
	return nil
}

// Close takes no more jobs, ends the streams of those there are, aborts their
// transfers, and waits for everything it started, or for ctx. Jobs that have not
// ended go on with the next Service that is given the store. However little time ctx
// leaves, the store has lastMoment to take the last of the changes. A Save that hangs
// is left behind with what waits for it, and what it was to save is as after a crash.
func (s *Service) Close(ctx context.Context) error {
	live, first := s.table.Close()
	for _, e := range live {
		e.Pause()
		e.Span.End() // another one begins with the next start
	}
	s.transfer.Stop()
	s.stop(table.ErrClosing)
	worked := make(chan struct{})
	go func() {
		s.work.close()
		close(worked)
	}()
	var err error
	select {
	case <-worked:
	case <-ctx.Done():
		err = errors.New("transfers were still being aborted")
	}
	if first {
		close(s.writer.quit)
		defer s.events.End()
	}
	select {
	case <-s.writer.done:
		return err
	case <-ctx.Done():
	}
	select {
	case <-s.writer.done:
	case <-time.After(lastMoment):
		err = errors.New("the store was still writing")
	}
	return err
}

// group is the goroutines of a Service. Its methods may be called from anywhere.
type group struct {
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// Go starts a goroutine, but not once the Service closes: the next start sees to what
// it was for.
func (g *group) Go(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.running.Go(f)
	}
}

// close starts no more goroutines, and waits for those there are.
func (g *group) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}
