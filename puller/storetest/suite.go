package storetest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// Fixture is a kind of store under test.
type Fixture struct {
	// Open returns a store with nothing in it.
	Open func(t *testing.T) store.Store
	// Reopen closes a store and opens what it kept, as the next start does.
	Reopen func(t *testing.T, s store.Store) store.Store
}

// Run tests the contract of store.Store.
func Run(t *testing.T, f Fixture) {
	t.Run("is empty at first", f.testEmpty)
	t.Run("has an ID that stays", f.testInstance)
	t.Run("keeps which images are private", f.testPrivate)
	t.Run("loads the last seq", f.testSeq)
	t.Run("loads what has not ended, oldest first", f.testLoad)
	t.Run("keeps all of a record", f.testRoundTrip)
	t.Run("leaves the result of a result event out", f.testResult)
	t.Run("puts a record in the place of the one with its ID", f.testReplace)
	t.Run("finds a record by its key", f.testKeyed)
	t.Run("lists what has ended", f.testEnded)
	t.Run("lists nothing that was replaced", f.testEndedReplaced)
	t.Run("lists in pages", f.testPages)
	t.Run("knows what ended last", f.testLast)
	t.Run("prunes by age", f.testPruneAge)
	t.Run("prunes by count", f.testPruneCount)
	t.Run("prunes by size", f.testPruneSize)
	t.Run("prunes all traces", f.testPruneTraces)
	t.Run("does what a simple store does", f.testModel)
	t.Run("shares no memory with its callers", f.testAliases)
	t.Run("is read while it saves", f.testConcurrent)
}

func (f Fixture) testEmpty(t *testing.T) {
	s := f.open(t)
	for range 2 {
		s.loads(0)
		s.hasNot(RecordID(1))
		s.hasNot("")
		s.keyed("key-1", "")
		s.keyed("", "")
		s.lists(puller.Filter{Limit: 1000})
		s.lists(puller.Filter{Limit: 1, State: puller.StateFailed, Kind: "pull", Image: "registry.test/a:v1", Cursor: RecordID(5)})
		s.prune(epoch, 0, 0)
		s.reopen()
	}
}

func (f Fixture) testInstance(t *testing.T) {
	s := f.open(t)
	id := s.Instance()
	if another := f.open(t).Instance(); len(id) < 20 || another == id {
		t.Errorf("the IDs of two stores are %q and %q", id, another)
	}
	s.save(1)
	s.save(2, NewRecord(1))
	for range 2 {
		s.reopen()
		if got := s.Instance(); got != id {
			t.Errorf("the ID is %q, and was %q", got, id)
		}
	}
}

func (f Fixture) testPrivate(t *testing.T) {
	s := f.open(t)
	have := func(want ...string) {
		t.Helper()
		got, whole, err := s.Private()
		if err != nil || !whole || !slices.Equal(got, want) {
			t.Errorf("they are %q, all: %t, %v; not %q", got, whole, err, want)
		}
	}
	have()
	s.save(1, NewRecord(1))
	for _, image := range []string{"sha256:b", "sha256:a", "sha256:b"} {
		if err := s.KeepPrivate(image); err != nil {
			t.Fatal(err)
		}
	}
	have("sha256:a", "sha256:b")
	s.save(2, ended(1))
	s.prune(time.Time{}, 0, 1)
	s.reopen()
	have("sha256:a", "sha256:b")
}

func (f Fixture) testSeq(t *testing.T) {
	s := f.open(t)
	s.save(7, NewRecord(1))
	s.loads(7, NewRecord(1))
	s.save(1 << 62)
	s.loads(1<<62, NewRecord(1))
	s.save(9) // what Save was given last, whatever was before
	s.reopen()
	s.loads(9, NewRecord(1))
}

func (f Fixture) testLoad(t *testing.T) {
	s := f.open(t)
	var all []store.Record
	for n := range 200 {
		all = append(all, NewRecord(n))
	}
	mixed := slices.Clone(all)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	s.save(1, mixed[:150]...)
	s.save(2, mixed[150:]...)
	s.loads(2, all...)
	s.reopen()
	s.loads(2, all...)

	var left []store.Record
	for n, r := range all {
		if n%3 == 0 {
			s.save(3, EndRecord(r, puller.StateFailed, epoch))
		} else {
			left = append(left, r)
		}
	}
	s.loads(3, left...)
	s.reopen()
	s.loads(3, left...)
}

func (f Fixture) testRoundTrip(t *testing.T) {
	s := f.open(t)
	bare := store.Record{Job: puller.Job{ID: RecordID(50), Kind: "run", State: puller.StateActive, Phase: puller.PhasePulling}}
	odd := NewRecord(51)
	odd.Key = "\xff\x00key \xfe" + strings.Repeat("k", 250)
	odd.Job.Parent = RecordID(50)
	big := ended(52)
	big.Events[2].Message = strings.Repeat("much to say ", 20_000)
	all := []store.Record{
		NewRecord(1), ended(2), EndRecord(NewRecord(3), puller.StateFailed, epoch), EndRecord(NewRecord(4), puller.StateCanceled, epoch),
		prewarmed(NewRecord(5)), EndRecord(prewarmed(NewRecord(6)), puller.StateFailed, epoch), bare, odd, big,
	}
	s.save(1, all...)
	for range 2 {
		for _, r := range all {
			s.has(r)
			if r.Key != "" {
				s.keyed(r.Key, r.Job.ID)
			}
		}
		s.loads(1, all[0], all[4], bare, odd)
		s.lists(puller.Filter{Limit: 100}, big, all[5], all[3], all[2], all[1])
		s.reopen()
	}
}

func (f Fixture) testResult(t *testing.T) {
	s := f.open(t)
	r := ended(1)
	last := len(r.Events) - 1
	r.Events[last].Result = &r.Job
	s.save(1, r)
	if r.Events[last].Result != &r.Job {
		t.Error("Save changed what it was given")
	}
	s.has(ended(1))
}

func (f Fixture) testReplace(t *testing.T) {
	s := f.open(t)
	queued := NewRecord(1)
	active := queued
	active.Job.State, active.Job.Phase = puller.StateActive, puller.PhaseResolving
	other := NewRecord(2)
	s.save(1, queued, other)
	s.has(queued)
	s.save(2, active)
	s.has(active)
	s.has(other)
	s.loads(2, active, other)
	s.save(3, ended(1))
	s.has(ended(1))
	s.loads(3, other)
	s.lists(puller.Filter{Limit: 10}, ended(1))
	s.save(4, queued, ended(1), ended(2), other) // the last one with an ID is the one
	s.has(ended(1))
	s.has(other)
	s.reopen()
	s.loads(4, other)
	s.lists(puller.Filter{Limit: 10}, ended(1))
	s.prune(time.Time{}, 0, 1)
	s.loads(4, other)
}

func (f Fixture) testKeyed(t *testing.T) {
	s := f.open(t)
	s.save(1, NewRecord(1), NewRecord(2))
	s.keyed("key-1", RecordID(1))
	s.keyed("key-2", RecordID(2))
	s.keyed("key", "")
	s.save(2, ended(1))
	s.keyed("key-1", RecordID(1))
	s.reopen()
	s.keyed("key-1", RecordID(1))

	without, renamed := NewRecord(2), ended(1)
	without.Key, renamed.Key = "", "another"
	s.save(3, without, renamed)
	s.keyed("key-1", "")
	s.keyed("key-2", "")
	s.keyed("another", RecordID(1))

	heir := NewRecord(3)
	heir.Key = "another"
	s.save(4, heir)
	s.keyed("another", RecordID(3))
	s.prune(time.Time{}, 0, 1) // of the one that held it before
	s.keyed("another", RecordID(3))
	s.reopen()
	s.keyed("another", RecordID(3))
}

func (f Fixture) testAliases(t *testing.T) {
	s := f.open(t)
	given := []store.Record{NewRecord(1), ended(2)}
	s.save(1, given...)
	scribble := func(r *store.Record) {
		r.Events[0].Message = "scribbled"
		r.Fingerprint[0] = 99
		r.Pull.Image = "scribbled"
		*r.Pull.Retries = 99
		if r.Job.Progress != nil {
			r.Job.Progress.Downloaded = 99
			*r.Job.Progress.ETASeconds = 99
			r.Job.Result.Digest = "scribbled"
		}
	}
	for i := range given {
		scribble(&given[i])
	}
	for range 2 {
		s.has(NewRecord(1))
		s.has(ended(2))
		s.keyed("key-2", RecordID(2))
		s.loads(1, NewRecord(1))
		s.lists(puller.Filter{}, ended(2))

		_, loaded, _ := s.Load()
		read, _ := s.Record(RecordID(2))
		keyed, _ := s.Keyed("key-1")
		listed, _ := s.Ended(puller.Filter{})
		scribble(&loaded[0])
		scribble(&read)
		scribble(&keyed)
		*listed[0].Progress.ETASeconds = 98
	}
}
