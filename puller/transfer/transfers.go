// Package transfer makes one pull by the engine serve all jobs that want the same.
//
// A transfer waits in the queue for a slot, makes attempts until one succeeds or no
// job wants another, watches that an attempt gets on, and proves what it brought. It
// lives on a context of the daemon's own. It ends early only when its last
// subscriber leaves. It knows jobs only as Subscribers.
package transfer

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/queue"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/puller/retry"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/tracing"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// Key tells transfers apart. Credentials are part of it: to join by reference alone
// would hand one caller what another one's credentials fetch.
type Key struct {
	Image, Platform string
	Identity        [sha256.Size]byte // of the credentials (puller.Credentials.Identity)
}

// Wanted is what the image of a transfer is to be.
func (k Key) Wanted() proof.Wanted { return proof.Wanted{Image: k.Image, Platform: k.Platform} }

// Request is what one subscriber wants.
type Request struct {
	Key
	Credentials puller.Credentials
	Policy      puller.Policy
	Retries     int  // attempts after the first
	Strict      bool // see puller.PullRequest
	Accelerate  puller.Accelerate
	Caller      string
	Rank        int           // of the priority
	Turn        uint64        // the order of admission
	Batched     bool          // part of a prewarm; Subscriber.Layer is called for it
	About       *stream.About // the job
	TraceParent string        // of the job
}

// Subscriber is what a transfer knows of a job. A transfer calls it without a lock,
// and not after Done or Member.Leave have returned, but for calls that are under
// way. The calls must not wait.
type Subscriber interface {
	// Phase says where the transfer is. Of two calls the one with the higher
	// Number is the later one.
	Phase(p Phase)
	// Layer says what became of a layer. Of two calls for one layer the one with the
	// higher number is the later one.
	Layer(number uint64, l pullstream.Layer)
	// Notice is for the job's readers. wait is how long a cool-down goes on that
	// the transfer waits for, 0 for anything else.
	Notice(message string, wait time.Duration)
	// Done says that the transfer is over for the subscriber.
	Done(result puller.Result, err error)
}

// Phase is where a transfer is.
type Phase struct {
	Number  uint64
	State   puller.State
	Phase   puller.Phase
	Attempt int
	Layers  *stream.Latest   // of the attempt; nil before the first
	Secrets *redact.Redactor // of what the engine is shown; nil for nothing
}

// Options are what transfers are made with.
type Options struct {
	Engine   engines.Engine
	Registry puller.Registry // nil for none
	Prover   *proof.Prover
	// Accelerator, unless it is nil, makes the engine's pulls faster.
	Accelerator engines.Accelerator
	// Admission, unless it is nil, is asked before each pull.
	Admission engines.Admission
	Store     store.Store // of the images that came with credentials
	// VerifyAccess gives an image that is there only to those whose credentials the
	// registry accepts for it.
	VerifyAccess             bool
	Concurrency, PerRegistry int
	// FirstByteTimeout is how long the engine may take to begin to tell of a pull,
	// and how long an engine that does not answer is waited for. StallTimeout is
	// how long a download may stand still, ExtractStallTimeout how long extraction
	// may. 0 is without limit.
	FirstByteTimeout, StallTimeout, ExtractStallTimeout time.Duration

	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
	Tracer  trace.Tracer          // nil for none
	Numbers *stream.Sequence      // of events
	Events  *stream.EventLog
	// Go starts a goroutine that the daemon waits for.
	Go func(func())
}

// maxInspects is how many jobs may ask the engine at a time whether their image is
// there. An inspect takes under a millisecond.
const maxInspects = 16

// Transfers is the table of all transfers. Its lock is taken before that of a
// transfer. Its methods may be called from anywhere.
type Transfers struct {
	opts        Options
	ctx         context.Context // ends when the daemon does
	queue       *queue.Queue
	access      *access
	metrics     metrics
	advance     lastAdvance
	inspects    chan struct{} // a semaphore
	unavailable atomic.Int64  // when the engine last did not answer, since began; 0 if it has since
	began       time.Time
	posted      atomic.Uint64 // layers, of all transfers

	mu    sync.Mutex
	byKey map[Key]*transfer
}

// New returns a table without transfers. Transfers end with ctx. The error is the
// store's.
func New(ctx context.Context, o Options) (*Transfers, error) {
	a, err := newAccess(o)
	if err != nil {
		return nil, err
	}
	q := queue.New(o.Concurrency, o.PerRegistry)
	o.Tracer = tracing.Tracer(o.Tracer)
	s := &Transfers{
		opts: o, ctx: ctx, queue: q, access: a, metrics: newMetrics(o.Metrics, q),
		inspects: make(chan struct{}, maxInspects), began: time.Now(), byKey: make(map[Key]*transfer),
	}
	s.advance.start = s.began
	return s, nil
}

// Stop has no transfer begin any more.
func (s *Transfers) Stop() { s.queue.Stop() }

// Queue says which transfers fetch, which wait and for what.
func (s *Transfers) Queue() puller.QueueState { return s.queue.State() }

// Join makes a member part of the transfer that it wants, which begins with it if
// there is none. It is called once for each member.
func (s *Transfers) Join(m *Member) {
	r := &m.request
	s.mu.Lock()
	t := s.byKey[r.Key]
	if t != nil {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			t = nil
		}
	}
	fresh := t == nil
	if fresh {
		t = newTransfer(s, r)
		s.byKey[r.Key] = t
		t.mu.Lock()
	}
	t.add(m)
	place, ticket, phase, until := t.wants, t.ticket, t.at, t.until
	var layers []numberedLayer
	if r.Batched {
		layers = slices.Clone(t.layers)
	}
	t.mu.Unlock()
	s.mu.Unlock()

	s.metrics.joined(fresh)
	m.sub.Phase(phase)
	for _, l := range layers {
		m.sub.Layer(l.number, l.Layer)
	}
	if fresh {
		t.enqueue(place)
		return
	}
	if ticket != nil {
		ticket.Raise(place.Rank, place.Batched, r.Caller)
	}
	if wait := time.Until(until).Round(time.Millisecond); wait > 0 {
		m.sub.Notice(coolingNotice(r.Image, wait), wait)
	}
}

// remove takes a transfer that is closed out of the table.
func (s *Transfers) remove(t *transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[t.key] == t {
		delete(s.byKey, t.key)
	}
}

// Missing reports whether it is known that an image is not there: it is being
// pulled, for that reason.
func (s *Transfers) Missing(k Key) bool {
	s.mu.Lock()
	t := s.byKey[k]
	s.mu.Unlock()
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.absent && !t.closed
}

// Judge says what follows for a request from what the engine answered to an Inspect.
// pull says that a transfer is to get the image. Else the result or the error is what
// the request ends with; no registry was contacted.
func (s *Transfers) Judge(r Request, image puller.Image, err error) (pull bool, result puller.Result, _ error) {
	var mismatch error
	if err == nil {
		mismatch = s.opts.Prover.Mismatch(image, r.Wanted())
	}
	switch present := err == nil && mismatch == nil; {
	case present && !s.access.has(r.Key, image):
		return true, result, nil // the transfer asks the registry whether it may be given
	case present:
		return false, s.opts.Prover.Result(image, r.Wanted()), nil
	case puller.KindOf(err) == puller.ErrEngineUnavailable && r.Retries > 0:
		return true, result, nil // the transfer waits for it
	case err != nil && puller.KindOf(err) != puller.ErrNotFound:
		return false, result, err
	case r.Policy == puller.PolicyNever || names.ParseName(r.Image).ID != "":
		return false, result, NotPresent(r.Image, r.Policy, mismatch)
	}
	return true, result, nil
}

// NotPresent is why a job fails whose image can't or must not be pulled. mismatch, if
// not nil, says what is wrong with the image that the engine has.
func NotPresent(image string, policy puller.Policy, mismatch error) error {
	isID := names.ParseName(image).ID != ""
	kind, words := puller.ErrNotFound, "not present on the engine, and the policy is never to pull it"
	if isID {
		words = "it is an image ID, and the engine has no such image; no registry knows IDs, so name a reference to have it pulled"
		if policy != puller.PolicyNever {
			kind = puller.ErrInvalidRequest
		}
	}
	switch {
	case mismatch == nil:
		return puller.Errorf(kind, "%s: %s", image, words)
	case isID && puller.KindOf(mismatch) == puller.ErrPlatformMismatch:
		return puller.Errorf(puller.ErrPlatformMismatch, "%s: %w", image, puller.Inner(mismatch))
	}
	return puller.Errorf(kind, "%s: %s: %w", image, words, puller.Inner(mismatch))
}

// Inspect asks the engine for an image. A few such calls run at a time.
func (s *Transfers) Inspect(ctx context.Context, k Key) (puller.Image, error) {
	select {
	case s.inspects <- struct{}{}:
		defer func() { <-s.inspects }()
	case <-ctx.Done():
		return puller.Image{}, context.Cause(ctx)
	}
	image, err := s.opts.Engine.Inspect(ctx, names.EngineRef(k.Image), k.Platform)
	if puller.KindOf(err) == puller.ErrEngineUnavailable {
		s.unavailable.Store(int64(time.Since(s.began)) + 1)
	} else {
		s.unavailable.Store(0)
	}
	return image, err
}

// EngineAway reports whether a request leaves it to its transfer to ask the engine,
// because the engine has just not answered. So an engine that is away is not asked by
// each new job.
func (s *Transfers) EngineAway(r Request) bool {
	since := s.unavailable.Load()
	return since != 0 && time.Since(s.began)-time.Duration(since) < retry.Least && r.Retries > 0
}

// Brought notes that an image has come with a caller's credentials.
func (s *Transfers) Brought(id string) { s.access.brought(id) }
