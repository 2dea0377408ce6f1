// Package pull is the work of a job that wants one image. It asks the engine whether the
// image is there. If not, it joins the transfer that gets it.
package pull

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/queue"
	"github.com/towline/towline/puller/retry"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/transfer"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// Env is what all pulls share.
type Env struct {
	Transfers    *transfer.Transfers
	Prover       *proof.Prover
	VerifyAccess bool
	// Go starts a goroutine that the daemon waits for.
	Go func(func())
	// Key is of this start, for puller.Credentials.Identity.
	Key []byte
}

// Options say what one pull is.
type Options struct {
	Job     *job.Job
	Request puller.PullRequest // with its defaults

	// Orphan says that the request's credentials were not kept over a restart.
	// Begun says that the pull had begun before it: its image may have come.
	Orphan, Begun bool

	// Done is called with what the pull ends with; nil for Job.Finish.
	Done func(puller.Result, error)
	// Layer, unless it is nil, is told what becomes of the image's layers, and
	// Settled that the job has ended: the pull is part of a prewarm.
	Layer   func(k transfer.Key, number uint64, l pullstream.Layer)
	Settled func()
}

// Pull is a job.Work, and the transfer.Subscriber of its job. Its lock is taken
// before that of the job. Its methods may be called from anywhere.
type Pull struct {
	env *Env
	o   Options // but Request.Credentials
	key transfer.Key

	mu          sync.Mutex
	credentials puller.Credentials
	member      *transfer.Member // nil while it is part of no transfer
	layers      *stream.Latest   // that the job's readers are shown
	number      uint64           // of the last phase
	until       time.Time        // the end of the cool-down that the job was told of
	missing     bool             // the engine has said that the image is not there
	over        bool
}

// New returns a pull that has not begun.
func New(env *Env, o Options) *Pull {
	p := &Pull{env: env, o: o, credentials: o.Request.Credentials}
	p.o.Request.Credentials = puller.Credentials{}
	p.key = transfer.Key{Image: o.Request.Image, Platform: o.Request.Platform, Identity: o.Request.Credentials.Identity(env.Key)}
	return p
}

// Job returns the pull's job.
func (p *Pull) Job() *job.Job { return p.o.Job }

// Key returns which transfer the pull wants.
func (p *Pull) Key() transfer.Key { return p.key }

// Request returns what was asked for, with its credentials until the pull is over.
func (p *Pull) Request() puller.PullRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.o.Request
	r.Credentials = p.credentials
	return r
}

// wants is what the pull wants of a transfer.
func (p *Pull) wants() transfer.Request {
	r, v := p.Request(), p.o.Job.View()
	return transfer.Request{
		Key: p.key, Credentials: r.Credentials, Policy: r.Policy, Retries: *r.Retries, Strict: r.Strict, Accelerate: r.Accelerate,
		Caller: r.Caller, Rank: queue.Rank(r.Priority), Turn: p.o.Job.Turn(), Batched: p.o.Layer != nil, About: v.About(), TraceParent: v.TraceParent,
	}
}

// lookTime is how long a job's acceptance waits for the engine to say whether the
// image is there. It mostly takes less than a millisecond.
const lookTime = 20 * time.Millisecond

// LookEarly asks the engine whether the image is there before the job is saved: a job
// that ends with that is saved once, as it ends, and not twice. An engine that takes
// its time is asked again when the pull begins.
func (p *Pull) LookEarly(ctx context.Context) {
	r := p.wants()
	if p.Asks() || p.knownMissing() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	image, err := p.env.Transfers.Inspect(ctx, p.key)
	if err != nil && puller.KindOf(err) != puller.ErrNotFound {
		return
	}
	p.decide(p.env.Transfers.Judge(r, image, err))
}

// decide takes up what Judge says, and reports whether the image is to be pulled.
func (p *Pull) decide(pull bool, result puller.Result, err error) bool {
	if !pull {
		p.Done(result, err)
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = true
	return !p.over
}

// Asks reports whether the pull is part of a transfer in any case: its policy asks
// the registry, or the engine is away and is waited for.
func (p *Pull) Asks() bool {
	return !p.o.Orphan && (p.o.Request.Policy.AsksRegistry() || p.env.Transfers.EngineAway(p.wants()))
}

// knownMissing reports whether the engine need not be asked whether the image is
// there: it is missing, and is being pulled.
func (p *Pull) knownMissing() bool {
	return p.o.Request.Policy == puller.PolicyMissing && p.env.Transfers.Missing(p.key)
}

// Begin has the image looked for, and pulled if it is not there.
func (p *Pull) Begin() {
	p.o.Job.StartTimer()
	p.mu.Lock()
	missing := p.missing
	p.mu.Unlock()
	if !p.o.Orphan && (missing || p.Asks() || p.knownMissing()) {
		p.Join()
		return
	}
	p.env.Go(func() {
		if p.Look() {
			p.Join()
		}
	})
}

// Look asks the engine whether the image is there, and reports whether it is to be
// pulled. If not, the pull is over.
func (p *Pull) Look() bool {
	if p.o.Orphan {
		p.adopt()
		return false
	}
	r := p.wants()
	if p.env.Transfers.EngineAway(r) {
		return true
	}
	image, err := p.env.Transfers.Inspect(p.o.Job.Context(), p.key)
	return p.decide(p.env.Transfers.Judge(r, image, err))
}

// Join makes the pull part of a transfer.
func (p *Pull) Join() {
	m := transfer.NewMember(p.wants(), p)
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.member = m
	p.mu.Unlock()
	p.env.Transfers.Join(m)
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	if over { // it was left meanwhile
		m.Leave()
	}
}

// adopt decides on a job whose credentials were not kept over a restart: it has
// succeeded if its image is there by now, unless it is to be verified that the
// credentials give access to it.
func (p *Pull) adopt() {
	ctx := p.o.Job.Context()
	image, err := retry.Engine(ctx, 0, nil, func() (puller.Image, error) { return p.env.Transfers.Inspect(ctx, p.key) })
	if err == nil && p.o.Begun {
		p.env.Transfers.Brought(image.ID)
	}
	if err == nil && p.env.Prover.Mismatch(image, p.key.Wanted()) == nil && !p.env.VerifyAccess {
		p.Done(p.env.Prover.Result(image, p.key.Wanted()), nil)
		return
	}
	p.Leave(puller.Errorf(puller.ErrDenied, "%s: towline was restarted before the pull had ended, and the login that came with the request was not kept; send the request again, with the login", p.key.Image))
}

// Leave implements job.Work.
func (p *Pull) Leave(err error) bool {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return false
	}
	p.over = true
	m := p.member
	p.mu.Unlock()
	if m != nil {
		if last := m.LastError(); last != nil && puller.KindOf(err) == puller.ErrTimeout {
			err = puller.Errorf(puller.ErrTimeout, "%w; the last attempt failed: %v", err, last)
		}
		m.Leave()
	}
	p.end(puller.Result{}, err)
	return true
}

// end tells what the pull has ended with. It is called once.
func (p *Pull) end(result puller.Result, err error) {
	if kind, other := puller.KindOf(err), p.o.Request.Withheld; other != "" && (kind == puller.ErrDenied || kind == puller.ErrNotFound) {
		err = &puller.Error{Kind: kind, RetryAfter: puller.RetryAfterOf(err),
			Err: fmt.Errorf("%w; the credentials of the request are for %s, so they were not shown to %s", err, other, names.RegistryOf(p.key.Image))}
	}
	if p.o.Done != nil {
		p.o.Done(result, err)
	} else {
		p.o.Job.Finish(result, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.member, p.credentials = nil, puller.Credentials{} // nobody needs them any more
}

// Describe implements job.Work.
func (p *Pull) Describe(v *puller.Job) {
	p.mu.Lock()
	m := p.member
	p.mu.Unlock()
	if m != nil {
		v.Progress, v.Timings = m.Progress()
	}
}

// Record implements job.Work.
func (p *Pull) Record(r *store.Record, _ bool) {
	request := p.o.Request
	r.Pull = &request
}

// Settled implements job.Work.
func (p *Pull) Settled() {
	if p.o.Settled != nil {
		p.o.Settled()
	}
}

// Phase implements transfer.Subscriber.
func (p *Pull) Phase(at transfer.Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || at.Number < p.number {
		return
	}
	p.number = at.Number
	j := p.o.Job
	j.Hide(at.Secrets)
	j.Enter(at.State, at.Phase, at.Attempt)
	if at.Layers != nil && at.Layers != p.layers {
		p.layers = at.Layers
		j.Topic().ShowLatest(at.Layers)
	}
}

// Layer implements transfer.Subscriber.
func (p *Pull) Layer(number uint64, l pullstream.Layer) {
	if p.o.Layer != nil {
		p.o.Layer(p.key, number, l)
	}
}

// Notice implements transfer.Subscriber. A job that does not last as long as a
// cool-down does not wait for it.
func (p *Pull) Notice(message string, wait time.Duration) {
	if wait > 0 && !p.o.Job.Lasts(wait) {
		p.Leave(transfer.ErrCooling(p.key.Image, wait))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Of two cool-downs that begin together the longer one may come first.
	until := time.Now().Add(wait)
	if p.over || wait > 0 && !until.After(p.until) {
		return
	}
	if wait > 0 {
		p.until = until
	}
	p.o.Job.Notice(message, wait)
}

// Done implements transfer.Subscriber.
func (p *Pull) Done(result puller.Result, err error) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	p.mu.Unlock()
	p.end(result, err)
}
