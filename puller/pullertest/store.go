package pullertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

// StoreFixture is a kind of store under test.
type StoreFixture struct {
	// Open returns a store with nothing in it.
	Open func(t *testing.T) puller.Store
	// Reopen closes a store and opens what it kept, as the next start does.
	Reopen func(t *testing.T, s puller.Store) puller.Store
}

// TestStore is the contract of puller.Store as tests.
func TestStore(t *testing.T, f StoreFixture) {
	t.Run("is empty at first", f.testEmpty)
	t.Run("loads the last seq", f.testSeq)
	t.Run("loads what has not ended, oldest first", f.testLoad)
	t.Run("keeps all of a record", f.testRoundTrip)
	t.Run("leaves the result of a result event out", f.testResult)
	t.Run("puts a record in the place of the one with its ID", f.testReplace)
	t.Run("finds a record by its key", f.testKeyed)
	t.Run("lists what has ended", f.testEnded)
	t.Run("lists nothing that was replaced", f.testEndedReplaced)
	t.Run("lists in pages", f.testPages)
	t.Run("prunes by age", f.testPruneAge)
	t.Run("prunes by count", f.testPruneCount)
	t.Run("prunes all traces", f.testPruneTraces)
	t.Run("does what a simple store does", f.testModel)
	t.Run("shares no memory with its callers", f.testAliases)
	t.Run("is read while it saves", f.testConcurrent)
}

// shelf is a store in a test.
type shelf struct {
	puller.Store
	*testing.T
	f StoreFixture
}

func (f StoreFixture) open(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{f.Open(t), t, f}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shelf) reopen() {
	s.Helper()
	s.Store = s.f.Reopen(s.T, s.Store)
}

func (s *shelf) save(seq uint64, records ...puller.Record) {
	s.Helper()
	if err := s.Save(seq, records); err != nil {
		s.Fatal(err)
	}
}

func (s *shelf) prune(before time.Time, keep, want int) {
	s.Helper()
	if n, err := s.Prune(before, keep); n != want || err != nil {
		s.Errorf("%d were pruned, not %d: %v", n, want, err)
	}
}

func (s *shelf) has(want puller.Record) {
	s.Helper()
	got, err := s.Record(want.Job.ID)
	if err != nil || !reflect.DeepEqual(got, want) {
		s.Errorf("the record is\n%+v, %v, not\n%+v", got, err, want)
	}
}

func (s *shelf) hasNot(id string) {
	s.Helper()
	if got, err := s.Record(id); puller.KindOf(err) != puller.NotFound {
		s.Errorf("the record %s should not be there: %+v, %v", id, got, err)
	}
}

// keyed tests which job holds a key, "" for none.
func (s *shelf) keyed(key, id string) {
	s.Helper()
	switch got, err := s.Keyed(key); {
	case id == "" && puller.KindOf(err) != puller.NotFound:
		s.Errorf("the key %q is held by %s, %v", key, got.Job.ID, err)
	case id != "" && (err != nil || got.Job.ID != id || got.Key != key):
		s.Errorf("the key %q is held by %q with the key %q, not by %s: %v", key, got.Job.ID, got.Key, id, err)
	}
}

func (s *shelf) loads(seq uint64, want ...puller.Record) {
	s.Helper()
	gotSeq, got, err := s.Load()
	if err != nil {
		s.Fatal(err)
	}
	if gotSeq != seq {
		s.Errorf("the seq is %d, not %d", gotSeq, seq)
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		s.Errorf("%d records are loaded, not %d, or other ones:\n%+v\n%+v", len(got), len(want), got, want)
	}
}

func (s *shelf) lists(f puller.Filter, want ...puller.Record) {
	s.Helper()
	got, err := s.Ended(f)
	if err != nil {
		s.Fatal(err)
	}
	jobs := make([]puller.Job, len(want))
	for i, r := range want {
		jobs[i] = r.Job
	}
	if len(got)+len(jobs) > 0 && !reflect.DeepEqual(got, jobs) {
		s.Errorf("%+v chooses %s, not %s", f, idsOf(got), idsOf(jobs))
	}
}

func idsOf(jobs []puller.Job) string {
	ids := make([]string, len(jobs))
	for i, j := range jobs {
		ids[i] = strings.TrimLeft(strings.TrimPrefix(j.ID, "01KAKM"), "0")
	}
	return fmt.Sprintf("%q", ids)
}

func ended(n int) puller.Record {
	return EndRecord(NewRecord(n), puller.Succeeded, epoch.Add(time.Duration(n)*time.Minute))
}

func (f StoreFixture) testEmpty(t *testing.T) {
	s := f.open(t)
	for range 2 {
		s.loads(0)
		s.hasNot(RecordID(1))
		s.hasNot("")
		s.keyed("key-1", "")
		s.keyed("", "")
		s.lists(puller.Filter{Limit: 1000})
		s.lists(puller.Filter{Limit: 1, State: puller.Failed, Kind: "pull", Image: "registry.test/a:v1", Cursor: RecordID(5)})
		s.prune(epoch, 0, 0)
		s.reopen()
	}
}

func (f StoreFixture) testSeq(t *testing.T) {
	s := f.open(t)
	s.save(7, NewRecord(1))
	s.loads(7, NewRecord(1))
	s.save(1 << 62)
	s.loads(1<<62, NewRecord(1))
	s.save(9) // what Save was given last, whatever was before
	s.reopen()
	s.loads(9, NewRecord(1))
}

func (f StoreFixture) testLoad(t *testing.T) {
	s := f.open(t)
	var all []puller.Record
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

	var left []puller.Record
	for n, r := range all {
		if n%3 == 0 {
			s.save(3, EndRecord(r, puller.Failed, epoch))
		} else {
			left = append(left, r)
		}
	}
	s.loads(3, left...)
	s.reopen()
	s.loads(3, left...)
}

func (f StoreFixture) testRoundTrip(t *testing.T) {
	s := f.open(t)
	bare := puller.Record{Job: puller.Job{ID: RecordID(50), Kind: "run", State: puller.Active, Phase: puller.Pulling}}
	odd := NewRecord(51)
	odd.Key = "\xff\x00key \xfe" + strings.Repeat("k", 250)
	odd.Job.Parent = RecordID(50)
	big := ended(52)
	big.Events[2].Message = strings.Repeat("much to say ", 20_000)
	all := []puller.Record{
		NewRecord(1), ended(2), EndRecord(NewRecord(3), puller.Failed, epoch), EndRecord(NewRecord(4), puller.StateCanceled, epoch),
		prewarmed(NewRecord(5)), EndRecord(prewarmed(NewRecord(6)), puller.Failed, epoch), bare, odd, big,
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

func (f StoreFixture) testResult(t *testing.T) {
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

func (f StoreFixture) testReplace(t *testing.T) {
	s := f.open(t)
	queued := NewRecord(1)
	active := queued
	active.Job.State, active.Job.Phase = puller.Active, puller.Resolving
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

func (f StoreFixture) testKeyed(t *testing.T) {
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

func (f StoreFixture) testEnded(t *testing.T) {
	s := f.open(t)
	rng := rand.New(rand.NewPCG(3, 4))
	all := someRecords(rng, 250)
	for part := range slices.Chunk(all, 37) {
		s.save(1, part...)
	}
	for n := 1000; n < 1010; n++ {
		s.save(1, NewRecord(n)) // has not ended: is in no list
	}
	for _, state := range []puller.State{"", puller.Succeeded, puller.Failed, puller.StateCanceled, puller.Queued, puller.Active} {
		for _, kind := range []string{"", "pull", "run", "prewarm"} {
			for _, image := range []string{"", "registry.test/team/app-0:v1", "registry.test/team/app-6"} {
				for _, limit := range []int{0, 3, 40} {
					for _, cursor := range []string{"", RecordID(rng.IntN(250)), [...]string{RecordID(0), RecordID(249), RecordID(5000), "0", "Z"}[rng.IntN(5)]} {
						filter := puller.Filter{State: state, Kind: kind, Image: image, Limit: limit, Cursor: cursor}
						s.lists(filter, choose(all, filter)...)
					}
				}
			}
		}
	}
}

// choose is Ended as its comment has it, of records in any order.
func choose(records []puller.Record, f puller.Filter) []puller.Record {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b puller.Record) int { return strings.Compare(b.Job.ID, a.Job.ID) })
	if f.Limit == 0 {
		f.Limit = 100
	}
	var chosen []puller.Record
	for _, r := range records {
		j := r.Job
		if len(chosen) < f.Limit && j.State.Ended() && (f.Cursor == "" || j.ID < f.Cursor) &&
			(f.State == "" || f.State == j.State) && (f.Kind == "" || f.Kind == j.Kind) && (f.Image == "" || f.Image == j.Image) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

func (f StoreFixture) testEndedReplaced(t *testing.T) {
	s := f.open(t)
	s.save(1, ended(1))
	was := ended(1).Job
	other := EndRecord(NewRecord(1), puller.Failed, epoch.Add(time.Hour))
	other.Job.Kind, other.Job.Image = "run", "registry.test/other:v1"
	s.save(2, other)
	s.lists(puller.Filter{State: was.State})
	s.lists(puller.Filter{Kind: was.Kind})
	s.lists(puller.Filter{Image: was.Image})
	s.lists(puller.Filter{}, other)
	s.lists(puller.Filter{State: puller.Failed, Kind: "run", Image: other.Job.Image}, other)
	s.prune(was.FinishedAt.Add(time.Nanosecond), 10, 0)

	s.save(3, NewRecord(1)) // goes on after all
	s.lists(puller.Filter{})
	s.lists(puller.Filter{State: puller.Failed, Kind: "run", Image: other.Job.Image})
	s.loads(3, NewRecord(1))
	s.prune(epoch.Add(1000*time.Hour), 0, 0)
}

func (f StoreFixture) testPages(t *testing.T) {
	s := f.open(t)
	all := someRecords(rand.New(rand.NewPCG(5, 6)), 150)
	s.save(1, all...)
	for _, filter := range []puller.Filter{{Limit: 7}, {Limit: 9, State: puller.Failed}, {Limit: 2, Kind: "pull", Image: "registry.test/team/app-3:v1"}} {
		var got []puller.Job
		for {
			page, err := s.Ended(filter)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page...)
			if len(page) < filter.Limit {
				break
			}
			filter.Cursor = page[len(page)-1].ID
		}
		filter.Cursor, filter.Limit = "", 1000
		var want []puller.Job
		for _, r := range choose(all, filter) {
			want = append(want, r.Job)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: the pages are %s, not %s", filter, idsOf(got), idsOf(want))
		}
	}
}

func (f StoreFixture) testPruneAge(t *testing.T) {
	s := f.open(t)
	s.save(1, NewRecord(0), ended(1), ended(2), ended(3), ended(4))
	at := ended(2).Job.FinishedAt
	s.prune(at, 100, 1) // what ended at that time did not end before it
	s.lists(puller.Filter{}, ended(4), ended(3), ended(2))
	s.prune(at.Add(time.Nanosecond), 100, 1)
	s.lists(puller.Filter{}, ended(4), ended(3))
	s.prune(at.Add(time.Nanosecond), 100, 0)
	s.reopen()
	s.lists(puller.Filter{}, ended(4), ended(3))
	s.prune(epoch.Add(1000*time.Hour), 100, 2)
	s.lists(puller.Filter{})
	s.loads(1, NewRecord(0))
}

func (f StoreFixture) testPruneCount(t *testing.T) {
	s := f.open(t)
	long := EndRecord(NewRecord(0), puller.Succeeded, epoch.Add(9*time.Minute)) // began first, ended last
	s.save(1, long, ended(1), ended(2), ended(3), NewRecord(4), NewRecord(5), NewRecord(6))
	s.prune(time.Time{}, 5, 0)
	s.prune(time.Time{}, 4, 0)
	s.prune(time.Time{}, 3, 1)
	s.lists(puller.Filter{}, ended(3), ended(2), long)
	s.prune(ended(3).Job.FinishedAt, 1, 2) // one by its age, another by the count
	s.lists(puller.Filter{}, long)
	s.reopen()
	s.lists(puller.Filter{}, long)
	s.prune(time.Time{}, 0, 1)
	s.lists(puller.Filter{})
	s.loads(1, NewRecord(4), NewRecord(5), NewRecord(6))
}

func (f StoreFixture) testPruneTraces(t *testing.T) {
	s := f.open(t)
	var all []puller.Record
	for n := range 2100 {
		all = append(all, ended(n))
	}
	s.save(1, all...)
	s.prune(ended(10).Job.FinishedAt, 90, 2010)
	for n, r := range all {
		if n < 2010 {
			s.hasNot(r.Job.ID)
			s.keyed(r.Key, "")
		} else {
			s.has(r)
			s.keyed(r.Key, r.Job.ID)
		}
	}
	for _, filter := range []puller.Filter{{}, {State: puller.Succeeded}, {Kind: "pull"}, {Image: all[5].Job.Image}} {
		s.lists(filter, choose(all[2010:], filter)...)
	}
	again := NewRecord(3000)
	again.Key = all[0].Key
	s.save(2, again)
	s.keyed(all[0].Key, again.Job.ID)
}

// testModel does the same at random with the store and with a map.
func (f StoreFixture) testModel(t *testing.T) {
	s := f.open(t)
	rng := rand.New(rand.NewPCG(7, 8))
	pool := someRecords(rng, 60)
	model := make(map[string]puller.Record)
	all := func(ended bool) []puller.Record {
		var records []puller.Record
		for _, r := range model {
			if r.Job.State.Ended() == ended {
				records = append(records, r)
			}
		}
		slices.SortFunc(records, func(a, b puller.Record) int { return strings.Compare(a.Job.ID, b.Job.ID) })
		return records
	}
	seq := uint64(0)
	for range 150 {
		switch rng.IntN(10) {
		case 0:
			before, keep := epoch.Add(time.Duration(rng.IntN(40))*time.Second), rng.IntN(40)
			gone := all(true)
			slices.SortStableFunc(gone, func(a, b puller.Record) int { return a.Job.FinishedAt.Compare(b.Job.FinishedAt) })
			young := slices.IndexFunc(gone, func(r puller.Record) bool { return !r.Job.FinishedAt.Before(before) })
			if young < 0 {
				young = len(gone)
			}
			gone = gone[:max(young, len(gone)-keep)]
			for _, r := range gone {
				delete(model, r.Job.ID)
			}
			s.prune(before, keep, len(gone))
		case 1:
			s.reopen()
		default:
			var batch []puller.Record
			for range rng.IntN(12) {
				n := rng.IntN(len(pool))
				r := pool[n]
				if rng.IntN(2) == 0 {
					r = NewRecord(n)
				}
				r.Job.Attempt = rng.IntN(4)
				batch = append(batch, r)
				model[r.Job.ID] = r
			}
			seq += uint64(rng.IntN(3))
			s.save(seq, batch...)
		}
		s.loads(seq, all(false)...)
		filter := puller.Filter{Limit: 1 + rng.IntN(30), State: pool[rng.IntN(len(pool))].Job.State, Image: pool[rng.IntN(len(pool))].Job.Image}
		s.lists(filter, choose(all(true), filter)...)
		s.lists(puller.Filter{Limit: 1000}, choose(all(true), puller.Filter{Limit: 1000})...)
		id := RecordID(rng.IntN(len(pool)))
		if r, ok := model[id]; ok {
			s.has(r)
		} else {
			s.hasNot(id)
		}
		if t.Failed() {
			return
		}
	}
}

func (f StoreFixture) testAliases(t *testing.T) {
	s := f.open(t)
	given := []puller.Record{NewRecord(1), ended(2)}
	s.save(1, given...)
	scribble := func(r *puller.Record) {
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

func (f StoreFixture) testConcurrent(t *testing.T) {
	s := f.open(t)
	const jobs = 60
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var errs [4]error
	for i := range errs {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(s, RecordID(n%jobs), fmt.Sprintf("key-%d", n%jobs)); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	for n := range jobs {
		s.save(uint64(2*n+1), NewRecord(n))
		s.save(uint64(2*n+2), ended(n))
		if n%10 == 9 {
			s.prune(time.Time{}, 20, max(0, min(n+1-20, 10)))
		}
	}
	close(stop)
	readers.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Error(err)
	}
}

// read reads in every way. What it finds must make sense, whenever it is.
func read(s puller.Store, id, key string) error {
	if r, err := s.Record(id); puller.KindOf(err) != puller.NotFound && (err != nil || r.Job.ID != id || r.Key != key) {
		return fmt.Errorf("record %s is %+v, %w", id, r, err)
	}
	if r, err := s.Keyed(key); puller.KindOf(err) != puller.NotFound && (err != nil || r.Job.ID != id) {
		return fmt.Errorf("key %s is of %+v, %w", key, r, err)
	}
	list, err := s.Ended(puller.Filter{Limit: 30, Kind: "pull"})
	if err != nil {
		return err
	}
	for i, j := range list {
		if !j.State.Ended() || i > 0 && list[i-1].ID <= j.ID {
			return fmt.Errorf("the list is %s", idsOf(list))
		}
	}
	seq, unended, err := s.Load()
	if err != nil {
		return err
	}
	// A record and the seq of its Save come together.
	if seq%2 == 1 != (len(unended) == 1) || len(unended) > 1 {
		return fmt.Errorf("%d records have not ended at seq %d", len(unended), seq)
	}
	return nil
}
