package transfer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/queue"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// transfer is one pull by the engine. While it waits for its first slot it is a
// ticket in the queue and has no goroutine: thousands may wait. From then on its goroutine,
// run, drives it. Its lock is taken before none but those of the queue and the event
// log, and not while a Subscriber is called.
type transfer struct {
	table       *Transfers
	key         Key
	credentials puller.Credentials
	totals      atomic.Pointer[pullstream.Totals] // of the present attempt
	timings     atomic.Pointer[puller.Timings]    // the same

	// Of run's goroutine:
	ctx       context.Context // ends when no subscriber is left, or the daemon ends
	slot      *queue.Ticket   // the first one; nil once an attempt has it
	looked    bool            // the engine was asked what it has
	firstID   string          // the image it had then, "" for none
	corrupted bool            // an attempt ended as ErrCorrupt
	unproven  bool            // an attempt brought what could not be proven
	stalled   bool            // an accelerated attempt stood still
	latest    *stream.Latest  // the same as Phase.Layers

	mu      sync.Mutex
	cancel  context.CancelCauseFunc // of ctx; nil until it runs
	members []*Member
	batched []*Member       // those of prewarms; a new slice with each change
	lastErr error           // what the last attempt failed with
	closed  bool            // takes no more members
	absent  bool            // the engine did not have the image when the attempt began
	present *puller.Result  // what was there when the attempt began, and may be given
	until   time.Time       // the end of the longest cool-down that members were told of
	ticket  *queue.Ticket   // while it waits in the queue
	at      Phase           // where it is
	wants   queue.Place     // of all members, also of those that left
	layers  []numberedLayer // of the attempt, the latest of each
}

// numberedLayer is a layer as Subscriber.Layer gets it.
type numberedLayer struct {
	number uint64
	pullstream.Layer
}

// Member is a subscriber's part in a transfer. Its methods may be called from
// anywhere.
type Member struct {
	request  Request
	sub      Subscriber
	transfer atomic.Pointer[transfer] // nil before Join
	failures int                      // attempts that failed while it was a member; of run's goroutine
}

// NewMember returns a member that is part of no transfer yet.
func NewMember(r Request, sub Subscriber) *Member { return &Member{request: r, sub: sub} }

var errUnwanted = puller.Errorf(puller.ErrCanceled, "no job wants the image any more")

func newTransfer(s *Transfers, r *Request) *transfer {
	return &transfer{
		table: s, key: r.Key, credentials: r.Credentials,
		at: Phase{State: puller.StateQueued},
		wants: queue.Place{
			Registry: names.RegistryOf(r.Image), Identity: r.Identity, Image: r.Image, Platform: r.Platform,
			Batched: true, Turn: r.Turn,
		},
	}
}

// add takes in a member. The lock is held.
func (t *transfer) add(m *Member) {
	r := &m.request
	m.transfer.Store(t)
	t.members = append(t.members, m)
	if r.Batched {
		t.batched = append(slices.Clip(t.batched), m)
	}
	w := &t.wants
	w.Rank, w.Batched = max(w.Rank, r.Rank), w.Batched && r.Batched
	if !slices.Contains(w.Callers, r.Caller) {
		w.Callers = append(slices.Clip(w.Callers), r.Caller)
	}
}

// enqueue puts a new transfer in the queue.
func (t *transfer) enqueue(place queue.Place) {
	ticket, until := t.table.queue.Join(place, func(slot *queue.Ticket) { t.table.opts.Go(func() { t.run(slot) }) }, t.cooling)
	t.mu.Lock()
	closed, now := t.closed, t.wants
	if t.cancel == nil && !closed {
		t.ticket = ticket
	}
	t.mu.Unlock()
	if closed {
		ticket.Abandon() // too late if it has a slot: run gives that back
	} else {
		ticket.Raise(now.Rank, now.Batched, now.Callers...) // members may have come since
	}
	t.cooling(until)
}

// run drives a transfer that has its first slot to its end.
func (t *transfer) run(slot *queue.Ticket) {
	if !t.start(slot) {
		slot.Release()
		return
	}
	defer t.cancel(nil)
	result, err := t.retry()
	if t.slot != nil {
		t.slot.Release() // it was cancelled before its first attempt
	}
	t.mu.Lock()
	t.closed = true
	members, present := t.members, t.present
	t.members, t.batched = nil, nil
	t.mu.Unlock()
	t.table.remove(t)
	for _, m := range members {
		m.done(result, err, present)
	}
	if t.latest != nil {
		t.table.opts.Events.Hide(t.latest)
	}
}

// start reports whether there is something to do with the slot.
func (t *transfer) start(slot *queue.Ticket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ticket = nil
	if t.closed {
		return false
	}
	t.slot = slot
	t.ctx, t.cancel = context.WithCancelCause(t.table.ctx)
	return true
}

// Leave ends the member's part. A transfer without members ends. A member that leaves
// while Join runs leaves once more after it.
func (m *Member) Leave() {
	t := m.transfer.Load()
	if t == nil {
		return
	}
	t.mu.Lock()
	left := slices.Contains(t.members, m)
	t.drop(map[*Member]bool{m: true})
	last := left && len(t.members) == 0 && !t.closed
	if last {
		t.closed = true
	}
	ticket, cancel := t.ticket, t.cancel
	t.mu.Unlock()
	if !last {
		t.name()
		return
	}
	t.table.remove(t)
	if ticket != nil {
		ticket.Abandon() // too late if it has a slot: run gives that back
	}
	if cancel != nil {
		cancel(errUnwanted)
	}
}

// Progress returns how far the present attempt is; nil before it begins.
func (m *Member) Progress() (*pullstream.Totals, *puller.Timings) {
	if t := m.transfer.Load(); t != nil {
		return t.totals.Load(), t.timings.Load()
	}
	return nil, nil
}

// LastError returns what the transfer's last attempt failed with, nil for none.
func (m *Member) LastError() error {
	t := m.transfer.Load()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastErr
}

// done tells the subscriber how the transfer ended. A member that asks for what is
// newer gets what is present where the registry does not answer, unless it is
// strict.
func (m *Member) done(result puller.Result, err error, present *puller.Result) {
	kind := puller.KindOf(err)
	if (kind == puller.ErrRegistryUnavailable || kind == puller.ErrRateLimited) && present != nil && m.request.Policy == puller.PolicyNewer && !m.request.Strict {
		m.sub.Notice("what is present is kept, since the registry could not be asked for what is newer ("+err.Error()+")", 0)
		result, err = *present, nil
	}
	m.sub.Done(result, err)
}

// drop takes members out. The lock is held.
func (t *transfer) drop(gone map[*Member]bool) {
	left := func(m *Member) bool { return gone[m] }
	t.members = slices.DeleteFunc(t.members, left)
	t.batched = slices.DeleteFunc(slices.Clone(t.batched), left)
}

// end ends the members for which stay returns false, and reports whether any are
// left. If none are, the transfer is closed.
func (t *transfer) end(result puller.Result, err error, stay func(*Member) bool) (left bool) {
	t.mu.Lock()
	var ended []*Member
	gone := make(map[*Member]bool)
	for _, m := range t.members {
		if !stay(m) {
			ended, gone[m] = append(ended, m), true
		}
	}
	if len(ended) > 0 {
		t.drop(gone)
	}
	left = len(t.members) > 0
	if !left {
		t.closed = true
	}
	present := t.present
	t.mu.Unlock()
	if !left {
		t.table.remove(t)
	}
	for _, m := range ended {
		m.done(result, err, present)
	}
	t.name()
	return left
}

// name has the event log show the layers in the name of the first member's job.
func (t *transfer) name() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at.Layers != nil && len(t.members) > 0 {
		t.table.opts.Events.Show(t.at.Layers, t.members[0].request.About)
	}
}

// any reports whether is returns true for a member.
func (t *transfer) any(is func(*Member) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.members, is)
}

// cause returns why the transfer's context has ended.
func (t *transfer) cause() error { return context.Cause(t.ctx) }
