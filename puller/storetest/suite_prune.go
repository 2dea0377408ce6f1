package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

func (f Fixture) testPruneAge(t *testing.T) {
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

func (f Fixture) testLast(t *testing.T) {
	s := f.open(t)
	s.last(3)
	long := EndRecord(NewRecord(0), puller.StateSucceeded, epoch.Add(9*time.Minute)) // began first, ended last
	s.save(1, long, ended(1), ended(2), ended(3), NewRecord(4))
	s.last(0)
	s.last(2, ended(3), long)
	s.last(4, ended(1), ended(2), ended(3), long)
	s.last(9, ended(1), ended(2), ended(3), long)
	s.prune(time.Time{}, 3, 1)
	s.reopen()
	s.last(9, ended(2), ended(3), long)
}

func (f Fixture) testPruneCount(t *testing.T) {
	s := f.open(t)
	long := EndRecord(NewRecord(0), puller.StateSucceeded, epoch.Add(9*time.Minute)) // began first, ended last
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

func (f Fixture) testPruneSize(t *testing.T) {
	s := f.open(t)
	large := func(n int) store.Record { // some 20 KB
		r := ended(n)
		r.Events[2].Message = strings.Repeat("x", 20_000)
		return r
	}
	var all []store.Record
	for n := range 40 {
		all = append(all, large(n))
	}
	long := EndRecord(NewRecord(50), puller.StateSucceeded, epoch) // began last, ended first
	s.save(1, append(all, long)...)
	waits := NewRecord(60) // counts for nothing
	waits.Events[0].Message = strings.Repeat("x", 100_000)
	s.save(2, waits)
	for _, c := range []struct {
		size int64
		n    int
	}{{0, 1}, {30_000, 1}, {100_000, 4}, {1 << 20, 30}} {
		if got, err := s.Last(30, c.size); err != nil || len(got) != c.n || got[c.n-1].Job.ID != all[39].Job.ID {
			t.Errorf("of %d bytes, the last are %d records, not %d: %v", c.size, len(got), c.n, err)
		}
	}
	prune := func(keep int, size int64, left ...store.Record) {
		t.Helper()
		before, err := s.Ended(puller.Filter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.Prune(time.Time{}, keep, size); n != len(before)-len(left) || err != nil {
			t.Errorf("%d were pruned, not %d: %v", n, len(before)-len(left), err)
		}
		s.lists(puller.Filter{Limit: 1000}, left...)
	}
	newest := func(n int) []store.Record {
		left := slices.Clone(all[len(all)-n:])
		slices.Reverse(left)
		return left
	}
	prune(100, 1<<20, append([]store.Record{long}, newest(40)...)...)
	prune(100, 500_000, newest(23)...)
	prune(20, 500_000, newest(20)...)
	s.reopen()
	prune(100, 500_000, newest(20)...)
	prune(100, 30_000, newest(1)...)
	prune(100, 10_000) // also one that is larger by itself
	s.loads(2, waits)
}

func (f Fixture) testPruneTraces(t *testing.T) {
	s := f.open(t)
	var all []store.Record
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
	for _, filter := range []puller.Filter{{}, {State: puller.StateSucceeded}, {Kind: "pull"}, {Image: all[5].Job.Image}} {
		s.lists(filter, choose(all[2010:], filter)...)
	}
	again := NewRecord(3000)
	again.Key = all[0].Key
	s.save(2, again)
	s.keyed(all[0].Key, again.Job.ID)
}
