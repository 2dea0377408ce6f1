package pullertest

import (
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

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

func (f StoreFixture) testLast(t *testing.T) {
	s := f.open(t)
	s.last(3)
	long := EndRecord(NewRecord(0), puller.Succeeded, epoch.Add(9*time.Minute)) // began first, ended last
	s.save(1, long, ended(1), ended(2), ended(3), NewRecord(4))
	s.last(0)
	s.last(2, ended(3), long)
	s.last(4, ended(1), ended(2), ended(3), long)
	s.last(9, ended(1), ended(2), ended(3), long)
	s.prune(time.Time{}, 3, 1)
	s.reopen()
	s.last(9, ended(2), ended(3), long)
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
