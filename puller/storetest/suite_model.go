package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// testModel does the same at random with the store and with a map.
func (f Fixture) testModel(t *testing.T) {
	s := f.open(t)
	rng := rand.New(rand.NewPCG(7, 8))
	pool := someRecords(rng, 60)
	model := make(map[string]store.Record)
	all := func(ended bool) []store.Record {
		var records []store.Record
		for _, r := range model {
			if r.Job.State.Ended() == ended {
				records = append(records, r)
			}
		}
		slices.SortFunc(records, func(a, b store.Record) int { return strings.Compare(a.Job.ID, b.Job.ID) })
		return records
	}
	seq := uint64(0)
	for range 150 {
		switch rng.IntN(10) {
		case 0:
			before, keep := epoch.Add(time.Duration(rng.IntN(40))*time.Second), rng.IntN(40)
			gone := all(true)
			slices.SortStableFunc(gone, func(a, b store.Record) int { return a.Job.FinishedAt.Compare(b.Job.FinishedAt) })
			young := slices.IndexFunc(gone, func(r store.Record) bool { return !r.Job.FinishedAt.Before(before) })
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
			var batch []store.Record
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

func (f Fixture) testConcurrent(t *testing.T) {
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
func read(s store.Store, id, key string) error {
	if r, err := s.Record(id); puller.KindOf(err) != puller.ErrNotFound && (err != nil || r.Job.ID != id || r.Key != key) {
		return fmt.Errorf("record %s is %+v, %w", id, r, err)
	}
	if r, err := s.Keyed(key); puller.KindOf(err) != puller.ErrNotFound && (err != nil || r.Job.ID != id) {
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
