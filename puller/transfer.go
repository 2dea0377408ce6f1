package puller

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync/atomic"
	"time"

	"github.com/towline/towline/stream"
)

// transferKey tells transfers apart. Credentials are part of it: joining by
// reference alone would hand one caller what another one's credentials fetch.
type transferKey struct {
	image, platform string
	identity        [sha256.Size]byte
}

// transfer is one pull by the engine, for all jobs that want the same. Its
// goroutine, run, drives it and takes it out of Puller.transfers.
type transfer struct {
	p           *Puller
	key         transferKey
	credentials Credentials
	ctx         context.Context
	cancel      context.CancelCauseFunc
	totals      atomic.Pointer[stream.Totals] // of the present attempt
	timings     atomic.Pointer[Timings]       // the same

	feed feed // for the prewarms that its jobs are part of

	// Of run's goroutine:
	looked    bool   // the engine was asked what it has
	firstID   string // the image it had then, "" for none
	corrupted bool   // an attempt brought something corrupt

	// Guarded by Puller.mu:
	jobs    []*job
	lastErr error // what the last attempt failed with
	closed  bool  // takes no more jobs
	absent  bool  // the engine did not have the image when the attempt began
	rank    int
	callers []string  // of its jobs, also of those that left
	batched bool      // all jobs are of prewarms
	until   time.Time // of the cool-down that it waits for
	turn    uint64    // of the first job
	waiter  *waiter   // its place in the queue, nil while it has left it
	state   State     // what its jobs are in
	phase   Phase
	attempt int
	board   *stream.Board // of the present attempt
}

// attach makes a job part of the transfer it wants, starting that if there is
// none. The admission lock is held.
func (p *Puller) attach(j *job) {
	t := p.transfers[j.key]
	if t == nil || t.closed {
		t = &transfer{p: p, key: j.key, credentials: j.request.Credentials, state: Queued, turn: j.turn}
		t.ctx, t.cancel = context.WithCancelCause(p.ctx)
		t.callers, t.batched = []string{j.caller}, j.parent != nil
		t.rank = j.request.Priority.rank()
		t.waiter = p.queue.join(t.place())
		p.transfers[j.key] = t
		p.work.Go(t.run)
	}
	t.rank = max(t.rank, j.request.Priority.rank())
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
		return
	}
	t.jobs = append(t.jobs, j)
	j.transfer = t
	if j.parent != nil {
		t.feed.join(j.parent.batch, j.key)
	}
	if t.board != nil {
		j.topic.Show(t.board)
	}
	j.enter(t.state, t.phase, t.attempt)
	if wait > 0 {
		j.notice(coolingNotice(j.view.Image, wait), wait)
	}
}

// detach takes a job out. Without jobs there is nothing to go on for.
func (t *transfer) detach(j *job) {
	if i := slices.Index(t.jobs, j); i >= 0 {
		t.jobs = slices.Delete(t.jobs, i, i+1)
		t.name()
	}
	if len(t.jobs) == 0 && !t.closed {
		t.closed = true
		t.cancel(Errorf(Canceled, "no job wants the image any more"))
	}
}

// run drives the transfer to its end and ends its jobs with it.
func (t *transfer) run() {
	defer t.cancel(nil)
	result, err := t.retry()
	t.p.mu.Lock()
	defer t.p.unlock()
	t.closed = true
	if t.waiter != nil {
		t.waiter.abandon() // it was cancelled before its first attempt
	}
	if t.p.transfers[t.key] == t {
		delete(t.p.transfers, t.key)
	}
	for _, j := range t.jobs {
		t.p.finish(j, result, err)
	}
	t.jobs = nil
	if t.board != nil {
		t.p.hub.Hide(t.board)
	}
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

// admit waits for its turn and returns the slot. The first attempt has its
// place since the transfer was admitted; the others join anew, in its old turn.
func (t *transfer) admit() (*waiter, error) {
	t.p.mu.Lock()
	if t.waiter == nil {
		t.waiter = t.p.queue.join(t.place())
	}
	w := t.waiter
	t.p.mu.Unlock()
	err := w.acquire(t.ctx, t.cooling)
	t.p.mu.Lock()
	t.waiter = nil
	t.p.mu.Unlock()
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
	t.closed = t.closed || len(t.jobs) == 0
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
		t.p.finish(j, Result{}, err)
		return true
	})
	t.name()
	t.closed = t.closed || len(t.jobs) == 0
	return len(t.jobs) > 0
}

// begin starts an attempt: its progress begins at nothing.
func (t *transfer) begin(absent bool) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.totals.Store(&stream.Totals{})
	t.timings.Store(&Timings{})
	t.absent = absent
	t.state, t.phase, t.attempt = Active, Resolving, t.attempt+1
	if t.board != nil {
		t.p.hub.Hide(t.board)
	}
	t.board = stream.NewBoard(&t.p.seq)
	t.name()
	t.feed.begin()
	for _, j := range t.jobs {
		j.enter(t.state, t.phase, t.attempt)
		j.topic.Show(t.board)
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
func (t *transfer) post(l stream.Layer, totals stream.Totals) {
	t.totals.Store(&totals)
	t.board.Post(l.ID, layerFrame(l, &totals))
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
