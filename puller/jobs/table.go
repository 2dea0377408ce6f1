package jobs

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

// entry is a job in the table.
type entry struct {
	*job.Job
	span   trace.Span // of the job; it records nothing if there is no tracer
	id     string     // from when it is reserved on
	caller string     // "" where that is not known
	key    string     // the idempotency key as it is kept; "" for none
	// fingerprint tells the request from another one with the same key.
	fingerprint []byte
	counted     amount        // in its caller's budget
	child       bool          // of a prewarm
	accepted    chan struct{} // closed when it is known whether the job was accepted
	refusal     error         // why it was not; set before accepted is closed
}

// table is the index of the jobs in memory, and the budgets. Its lock is taken before
// that of a job. Its methods may be called from anywhere.
type table struct {
	mostPerCaller amount

	mu          sync.Mutex
	closing     bool
	byID        map[string]*entry // that have not ended, or not on disk, and recent ones
	order       []*entry          // the same, by ID, which is by the time of admission
	keys        map[string]*entry // the same, by idempotency key, and those to be accepted
	recent      []*entry          // the last that have ended, in that order
	recentBytes int64
	unended     amount
	held        map[string]amount // the same, by caller
	turns       uint64            // jobs that were accepted
	lastMS      uint64            // the time in the last job's ID
	entropy     *ulid.MonotonicEntropy
}

func newTable(o Options) *table {
	return &table{
		mostPerCaller: amount{o.MaxPerCaller, o.MaxBytesPerCaller},
		byID:          make(map[string]*entry), keys: make(map[string]*entry), held: make(map[string]amount),
		entropy: ulid.Monotonic(rand.Reader, 0),
	}
}

// reserve gives jobs their IDs and a place in the budgets. It returns the job that has
// the first one's idempotency key, if there is one in memory.
func (t *table) reserve(entries []*entry) (known *entry, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := entries[0]
	key := first.key
	switch {
	case t.closing:
		return nil, errClosing
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

// tally returns how many jobs have not ended, by kind and state.
func (t *table) tally() map[puller.JobKind]map[puller.State]int {
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
func (t *table) newID() string {
	t.lastMS = max(t.lastMS, ulid.Now())
	return ulid.MustNew(t.lastMS, t.entropy).String()
}

// startAbove makes IDs go on after one.
func (t *table) startAbove(id string) {
	if u, err := ulid.ParseStrict(id); err == nil {
		t.lastMS = max(t.lastMS, u.Time()+1)
	}
}

// refuse gives back what reserve has given.
func (t *table) refuse(entries []*entry, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(entries...)
	for _, e := range entries {
		if t.keys[e.key] == e {
			delete(t.keys, e.key)
		}
		e.refusal = err
		tracing.End(e.span, err)
		e.Topic().Withdraw()
		close(e.accepted)
	}
}

// accept makes jobs known. It reports whether the Service closes.
func (t *table) accept(entries []*entry) (closing bool) {
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

func byID(e *entry, id string) int { return strings.Compare(e.id, id) }

// get returns a job in memory, or nil.
func (t *table) get(id string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// newest returns the jobs in memory with IDs below a cursor, or all for "", newest
// first.
func (t *table) newest(cursor string) []*entry {
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

// ended gives back a job's place in the budgets.
func (t *table) ended(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(e)
}

// retire notes that a job has ended on disk, and forgets the jobs that ended longest
// ago, if enough have ended since: the store knows them. It returns how many bytes
// there are of the job, as it is in memory and, nearly, in the store.
func (t *table) retire(e *entry) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.counted.bytes += int64(e.Topic().Size()) // of what there is of it now
	t.recent, t.recentBytes = append(t.recent, e), t.recentBytes+e.counted.bytes
	for len(t.recent) > keepRecent || t.recentBytes > keepRecentBytes {
		t.forget(t.recent[0])
	}
	return e.counted.bytes
}

// forget takes the first of the recent jobs out of memory. The lock is held.
func (t *table) forget(e *entry) {
	t.recentBytes -= e.counted.bytes
	t.recent = slices.Delete(t.recent, 0, 1)
	delete(t.byID, e.id)
	if t.keys[e.key] == e {
		delete(t.keys, e.key)
	}
	if i, ok := slices.BinarySearchFunc(t.order, e.id, byID); ok {
		t.order = slices.Delete(t.order, i, i+1)
	}
}

// close takes no more jobs. It returns those in memory, and whether it is the first
// call.
func (t *table) close() (live []*entry, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first = !t.closing
	t.closing = true
	if first {
		live = slices.Clone(t.order)
	}
	return live, first
}

func (t *table) isClosing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closing
}

// newEntry returns a job that has not been accepted. size is what it counts in its
// caller's budget, in bytes.
func newEntry(env *job.Env, r job.Request, size int64, span trace.Span) *entry {
	return &entry{
		Job: job.New(env, r), span: span, id: r.View.ID, caller: r.Caller, key: r.IdempotencyKey, fingerprint: r.Fingerprint,
		counted: amount{1, size}, accepted: make(chan struct{}),
	}
}

func errNoJob(id string) error {
	return puller.Errorf(puller.ErrNotFound, "job %q is not known; it may have ended long ago", puller.Clip(id))
}
