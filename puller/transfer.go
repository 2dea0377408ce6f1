package puller

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync/atomic"
	"time"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// transferKey tells transfers apart. Credentials are part of it: joining by
// reference alone would hand one caller what another one's credentials fetch.
type transferKey struct {
	image, platform string
	identity        [sha256.Size]byte
}

func (k transferKey) wanted() wanted { return wanted{k.image, k.platform} }

// transfer is one pull by the engine, for all jobs that want the same. While it
// waits for its first slot it is an entry in the queue and no more: thousands
// may. From then on its goroutine, run, drives it.
type transfer struct {
	p           *Puller
	key         transferKey
	credentials Credentials
	totals      atomic.Pointer[pullstream.Totals] // of the present attempt
	timings     atomic.Pointer[Timings]           // the same

	feed feed // for the prewarms that its jobs are part of

	// Of run's goroutine:
	ctx       context.Context // ends when no job wants it any more, or all is to end
	slot      *waiter         // the first one; nil once an attempt has it
	looked    bool            // the engine was asked what it has
	firstID   string          // the image it had then, "" for none
	corrupted bool            // an attempt ended as ErrCorrupt
	unproven  bool            // an attempt brought what could not be proven
	answered  func()          // the registry gives the attempt what it asks for

	// Guarded by Puller.mu:
	cancel  context.CancelCauseFunc // of ctx; nil until it runs
	jobs    []*job
	lastErr error   // what the last attempt failed with
	closed  bool    // takes no more jobs, and is in Puller.transfers no more
	absent  bool    // the engine did not have the image when the attempt began
	present *Result // what was there when the attempt began, and may be given
	rank    int
	callers []string  // of its jobs, also of those that left
	batched bool      // all jobs are of prewarms
	until   time.Time // of the longest cool-down that its jobs were told of
	turn    uint64    // of the first job
	waiter  *waiter   // its place in the queue, nil while it has left it
	state   State     // what its jobs are in
	phase   Phase
	attempt int
	board   *stream.Latest // of the present attempt
	secrets *Redactor      // of what the engine was shown
}

var errUnwanted = Errorf(ErrCanceled, "no job wants the image any more")

// attach makes a job part of the transfer it wants, which begins with it if there
// is none. The admission lock is held.
func (p *Puller) attach(j *job) {
	t := p.transfers[j.key]
	if t == nil {
		t = p.newTransfer(j)
	}
	t.rank = max(t.rank, j.request.Priority.Rank())
	t.batched = t.batched && j.parent != nil
	if !slices.Contains(t.callers, j.caller) {
		t.callers = append(t.callers, j.caller)
	}
	if t.waiter != nil {
		t.waiter.raise(t.rank, t.batched, j.caller)
	}
	wait := time.Until(t.until)
	if !j.lasts(wait) {
		p.finish(j, Result{}, errCooling(j.view.Image, wait))
		if len(t.jobs) == 0 {
			t.shut()
		}
		return
	}
	t.jobs = append(t.jobs, j)
	j.transfer = t
	if t.secrets != nil {
		j.secrets = t.secrets
	}
	if j.parent != nil {
		t.feed.join(j.parent.batch, j.key)
	}
	if t.board != nil {
		j.topic.ShowLatest(t.board)
	}
	j.enter(t.state, t.phase, t.attempt)
	if wait > 0 {
		j.notice(coolingNotice(j.view.Image, wait), wait)
	}
}

// newTransfer puts the transfer that a job wants in the queue. The admission lock
// is held, here and below.
func (p *Puller) newTransfer(j *job) *transfer {
	t := &transfer{
		p: p, key: j.key, credentials: j.request.Credentials, state: StateQueued, turn: j.turn,
		callers: []string{j.caller}, batched: j.parent != nil, rank: j.request.Priority.Rank(),
	}
	p.transfers[j.key] = t
	t.waiter, t.until = p.queue.join(t.place(), func() { p.work.Go(t.run) }, t.cooling)
	return t
}

// shut has the transfer take no more jobs, and leave the queue: another one may
// come in its turn. If it has not had a slot yet, that is its end.
func (t *transfer) shut() {
	if t.closed {
		return
	}
	t.closed = true
	delete(t.p.transfers, t.key)
	if t.waiter != nil {
		t.waiter.abandon() // too late if it has a slot, which is given back later
	}
}

// stop shuts the transfer and ends what it does, for the reason err.
func (t *transfer) stop(err error) {
	t.shut()
	if t.cancel != nil {
		t.cancel(err)
	}
}

// detach takes a job out. Without jobs there is nothing to go on for.
func (t *transfer) detach(j *job) {
	if i := slices.Index(t.jobs, j); i >= 0 {
		t.jobs = slices.Delete(t.jobs, i, i+1)
		t.name()
	}
	if len(t.jobs) == 0 && !t.closed {
		t.stop(errUnwanted)
	}
}

// run drives a transfer that has its first slot to its end, and ends its jobs
// with it.
func (t *transfer) run() {
	if !t.start() {
		return
	}
	defer t.cancel(nil)
	result, err := t.retry()
	if t.slot != nil {
		t.slot.release() // it was cancelled before its first attempt
	}
	t.p.mu.Lock()
	defer t.p.unlock()
	t.shut()
	for _, j := range t.jobs {
		t.end(j, result, err)
	}
	t.jobs = nil
	if t.board != nil {
		t.p.hub.Hide(t.board)
	}
}

// start reports whether there is something to do with the slot.
func (t *transfer) start() bool {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.slot, t.waiter = t.waiter, nil
	if t.closed {
		t.slot.release()
		return false
	}
	t.ctx, t.cancel = context.WithCancelCause(t.p.ctx)
	return true
}

// name has the hub show the board in the name of the first of the jobs. The
// admission lock is held.
func (t *transfer) name() {
	if t.board != nil && len(t.jobs) > 0 {
		t.p.hub.Show(t.board, t.jobs[0].about())
	}
}

// place is what its place in the queue follows from. The admission lock is held.
func (t *transfer) place() place {
	return place{key: t.key, callers: t.callers, rank: t.rank, batched: t.batched, turn: t.turn}
}

// admit returns an attempt's slot. The first one has it; the others join the
// queue anew, in the transfer's old turn, and wait.
func (t *transfer) admit() (*waiter, error) {
	if slot := t.slot; slot != nil {
		t.slot = nil
		return slot, nil
	}
	ready := make(chan struct{})
	t.p.mu.Lock()
	if t.closed { // another one may have its turn by now
		t.p.mu.Unlock()
		return nil, errUnwanted
	}
	w, until := t.p.queue.join(t.place(), func() { close(ready) }, t.cooling)
	t.waiter = w
	t.p.mu.Unlock()
	t.cooling(until)
	var err error
	select {
	case <-ready:
	case <-t.ctx.Done():
		err = context.Cause(t.ctx)
	}
	t.p.mu.Lock()
	t.waiter = nil
	t.p.mu.Unlock()
	if err != nil && !w.abandon() {
		w.release()
	}
	return w, err
}

// dismiss ends the jobs with policies that are content with the result, and
// reports whether none are left: the transfer is then closed.
func (t *transfer) dismiss(result Result, content func(Policy) bool) bool {
	t.p.mu.Lock()
	defer t.p.unlock()
	t.jobs = slices.DeleteFunc(t.jobs, func(j *job) bool {
		if !content(j.request.Policy) {
			return false
		}
		t.p.finish(j, result, nil)
		return true
	})
	t.name()
	if len(t.jobs) == 0 {
		t.shut()
	}
	return len(t.jobs) == 0
}

// keep ends the jobs that stay returns false for, with err, and reports
// whether any are left; if none are, the transfer is closed.
func (t *transfer) keep(err error, stay func(*job) bool) bool {
	t.p.mu.Lock()
	defer t.p.unlock()
	return t.keepLocked(err, stay)
}

// keepLocked is keep for who holds the admission lock.
func (t *transfer) keepLocked(err error, stay func(*job) bool) bool {
	t.jobs = slices.DeleteFunc(t.jobs, func(j *job) bool {
		if stay(j) {
			return false
		}
		t.end(j, Result{}, err)
		return true
	})
	t.name()
	if len(t.jobs) == 0 {
		t.shut()
	}
	return len(t.jobs) > 0
}

// begin starts an attempt: its progress begins at nothing.
func (t *transfer) begin(absent bool) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.totals.Store(&pullstream.Totals{})
	t.timings.Store(&Timings{})
	t.absent = absent
	t.state, t.phase, t.attempt = StateActive, PhaseResolving, t.attempt+1
	if t.board != nil {
		t.p.hub.Hide(t.board)
	}
	t.board = stream.NewLatest(&t.p.seq)
	t.name()
	t.feed.begin()
	for _, j := range t.jobs {
		j.enter(t.state, t.phase, t.attempt)
		j.topic.ShowLatest(t.board)
	}
}

// enter moves the transfer and its jobs to a phase.
func (t *transfer) enter(phase Phase) {
	// Only run's goroutine writes phase, so it may read without the lock.
	if t.phase == phase {
		return
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.phase = phase
	for _, j := range t.jobs {
		j.enter(t.state, t.phase, t.attempt)
	}
}

// post tells what became of a layer.
func (t *transfer) post(l pullstream.Layer, totals pullstream.Totals) {
	t.totals.Store(&totals)
	t.board.Set(l.ID, LayerFrame(l, &totals))
	t.feed.put(t.key, l)
}

// notice tells the jobs' readers something; wait is how long they are to wait
// for it, 0 where that is not the matter.
func (t *transfer) notice(message string, wait time.Duration) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	for _, j := range t.jobs {
		j.notice(message, wait)
	}
}
