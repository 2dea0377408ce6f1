// Package table is the index of the jobs in memory. It gives jobs their IDs, and keeps
// the budgets of callers.
package table

import (
	"crypto/rand"
	"slices"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/tracing"
)

const (
	// keepRecent is how many ended jobs stay in memory: a caller that asks for one
	// soon after its end also gets its layers, which the store does not keep.
	keepRecent = 100
	// keepRecentBytes bounds their requests and what their readers were told, each of
	// which is in memory about twice.
	keepRecentBytes = 16 << 20
)

// ErrClosing is why jobs are refused when the daemon ends.
var ErrClosing = puller.Errorf(puller.ErrOverloaded, "towline is shutting down; ask again when it is back")

// Entry is a job in the table.
type Entry struct {
	*job.Job
	// Span is the span of the job. It records nothing if there is no tracer.
	Span trace.Span
	// Key is the idempotency key as it is kept; "" for none.
	Key string
	// Fingerprint tells the request from another one with the same key.
	Fingerprint []byte
	Child       bool // the job is part of a prewarm

	id       string // from when it is reserved on
	caller   string // "" where that is not known
	counted  amount // in its caller's budget
	accepted chan struct{}
	refusal  error // why it was not accepted; set before accepted is closed
}

// NewEntry returns a job that has not been accepted. size is what it counts in its
// caller's budget, in bytes.
func NewEntry(env *job.Env, r job.Request, size int64, span trace.Span) *Entry {
	return &Entry{
		Job: job.New(env, r), Span: span, Key: r.IdempotencyKey, Fingerprint: r.Fingerprint,
		id: r.View.ID, caller: r.Caller, counted: amount{1, size}, accepted: make(chan struct{}),
	}
}

// Wait waits until it is known whether the job was accepted, and returns why it was not.
func (e *Entry) Wait() error {
	<-e.accepted
	return e.refusal
}

// Announce ends the calls of Wait for a job that was accepted. It is called once, after
// Accept.
func (e *Entry) Announce() { close(e.accepted) }

// Table is the index of the jobs in memory, and the budgets. Its lock is taken before
// that of a job. Its methods may be called from anywhere.
type Table struct {
	mostPerCaller amount // zero is without limit

	mu          sync.Mutex
	closing     bool
	byID        map[string]*Entry // that have not ended, or not on disk, and recent ones
	order       []*Entry          // the same, by ID, which is by the time of admission
	keys        map[string]*Entry // the same, by idempotency key, and those to be accepted
	recent      []*Entry          // the last that have ended, in that order
	recentBytes int64
	unended     amount
	held        map[string]amount // the same, by caller
	turns       uint64            // jobs that were accepted
	lastMS      uint64            // the time in the last job's ID
	entropy     *ulid.MonotonicEntropy
}

// New returns an empty table. One caller may have so many unended jobs, and so many bytes
// of their requests; 0 is without limit.
func New(jobsPerCaller int, bytesPerCaller int64) *Table {
	return &Table{
		mostPerCaller: amount{jobsPerCaller, bytesPerCaller},
		byID:          make(map[string]*Entry), keys: make(map[string]*Entry), held: make(map[string]amount),
		entropy: ulid.Monotonic(rand.Reader, 0),
	}
}

// Reserve gives jobs their IDs and a place in the budgets. It returns the job that has
// the first one's idempotency key, if there is one in memory.
func (t *Table) Reserve(entries []*Entry) (known *Entry, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := entries[0]
	key := first.Key
	switch {
	case t.closing:
		return nil, ErrClosing
	case key != "" && t.keys[key] != nil:
		return t.keys[key], nil
	}
	if err := t.checkBudget(entries); err != nil {
		return nil, err
	}
	t.hold(entries...)
	if key != "" {
		t.keys[key] = first
	}
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = t.newID()
	}
	for i, e := range entries {
		e.id = ids[i]
		if e == first {
			e.Reserve(e.id, "", ids[1:])
		} else {
			e.Reserve(e.id, first.id, nil)
		}
	}
	return nil, nil
}

// Tally returns how many jobs have not ended, by kind and state.
func (t *Table) Tally() map[puller.JobKind]map[puller.State]int {
	t.mu.Lock()
	entries := slices.Clone(t.order)
	t.mu.Unlock()
	all := make(map[puller.JobKind]map[puller.State]int)
	for _, e := range entries {
		v := e.View()
		if all[v.Kind] == nil {
			all[v.Kind] = make(map[puller.State]int)
		}
		all[v.Kind][v.State]++
	}
	return all
}

// newID returns a ULID above all that were given before, also when the clock is set
// back: jobs are ordered by it. The lock is held.
func (t *Table) newID() string {
	t.lastMS = max(t.lastMS, ulid.Now())
	return ulid.MustNew(t.lastMS, t.entropy).String()
}

// StartAbove makes all later IDs higher than one that was given before.
func (t *Table) StartAbove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.startAbove(id)
}

func (t *Table) startAbove(id string) {
	if u, err := ulid.ParseStrict(id); err == nil {
		t.lastMS = max(t.lastMS, u.Time()+1)
	}
}

// Restore takes in jobs that had not ended before a start.
func (t *Table) Restore(entries []*Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		t.startAbove(e.id)
		t.hold(e)
		if key := e.Key; key != "" {
			t.keys[key] = e
		}
	}
}

// Refuse gives back what Reserve has given, and ends the calls of Wait.
func (t *Table) Refuse(entries []*Entry, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(entries...)
	for _, e := range entries {
		if t.keys[e.Key] == e {
			delete(t.keys, e.Key)
		}
		e.refusal = err
		tracing.End(e.Span, err)
		e.Topic().Withdraw()
		close(e.accepted)
	}
}

// Accept makes jobs known. It reports whether the Service closes.
func (t *Table) Accept(entries []*Entry) (closing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		t.turns++
		e.Accept(t.turns)
		t.byID[e.id] = e
		i, _ := slices.BinarySearchFunc(t.order, e.id, byID)
		t.order = slices.Insert(t.order, i, e)
	}
	return t.closing
}

func byID(e *Entry, id string) int { return strings.Compare(e.id, id) }

// Get returns a job in memory, or nil.
func (t *Table) Get(id string) *Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// Newest returns the jobs in memory with IDs below a cursor, or all for "", newest
// first.
func (t *Table) Newest(cursor string) []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := len(t.order)
	if cursor != "" {
		// A job that is not there any more still marks its place.
		end, _ = slices.BinarySearchFunc(t.order, cursor, byID)
	}
	all := slices.Clone(t.order[:end])
	slices.Reverse(all)
	return all
}

// Ended gives back a job's place in the budgets.
func (t *Table) Ended(e *Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(e)
}

// Retire notes that a job has ended on disk, and forgets the jobs that ended longest
// ago, if enough have ended since: the store knows them. It returns how many bytes
// there are of the job, as it is in memory and, nearly, in the store.
func (t *Table) Retire(e *Entry) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.counted.bytes += int64(e.Topic().Size()) // what its readers were told now counts too
	t.recent, t.recentBytes = append(t.recent, e), t.recentBytes+e.counted.bytes
	for len(t.recent) > keepRecent || t.recentBytes > keepRecentBytes {
		t.forget(t.recent[0])
	}
	return e.counted.bytes
}

// forget takes the first of the recent jobs out of memory. The lock is held.
func (t *Table) forget(e *Entry) {
	t.recentBytes -= e.counted.bytes
	t.recent = slices.Delete(t.recent, 0, 1)
	delete(t.byID, e.id)
	if t.keys[e.Key] == e {
		delete(t.keys, e.Key)
	}
	if i, ok := slices.BinarySearchFunc(t.order, e.id, byID); ok {
		t.order = slices.Delete(t.order, i, i+1)
	}
}

// Close has Reserve refuse all jobs from now on. It returns those in memory, and whether
// it is the first call.
func (t *Table) Close() (live []*Entry, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first = !t.closing
	t.closing = true
	if first {
		live = slices.Clone(t.order)
	}
	return live, first
}

// IsClosing reports whether Close was called.
func (t *Table) IsClosing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closing
}
