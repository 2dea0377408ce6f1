package storetest

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

func (f Fixture) testEnded(t *testing.T) {
	s := f.open(t)
	rng := rand.New(rand.NewPCG(3, 4))
	all := someRecords(rng, 250)
	for part := range slices.Chunk(all, 37) {
		s.save(1, part...)
	}
	for n := 1000; n < 1010; n++ {
		s.save(1, NewRecord(n)) // has not ended: is in no list
	}
	for _, state := range []puller.State{"", puller.StateSucceeded, puller.StateFailed, puller.StateCanceled, puller.StateQueued, puller.StateActive} {
		for _, kind := range []puller.JobKind{"", "pull", "run", "prewarm"} {
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
func choose(records []store.Record, f puller.Filter) []store.Record {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b store.Record) int { return strings.Compare(b.Job.ID, a.Job.ID) })
	if f.Limit == 0 {
		f.Limit = 100
	}
	var chosen []store.Record
	for _, r := range records {
		j := r.Job
		if len(chosen) < f.Limit && j.State.Ended() && (f.Cursor == "" || j.ID < f.Cursor) &&
			(f.State == "" || f.State == j.State) && (f.Kind == "" || f.Kind == j.Kind) && (f.Image == "" || f.Image == j.Image) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

func (f Fixture) testEndedReplaced(t *testing.T) {
	s := f.open(t)
	s.save(1, ended(1))
	was := ended(1).Job
	other := EndRecord(NewRecord(1), puller.StateFailed, epoch.Add(time.Hour))
	other.Job.Kind, other.Job.Image = "run", "registry.test/other:v1"
	s.save(2, other)
	s.lists(puller.Filter{State: was.State})
	s.lists(puller.Filter{Kind: was.Kind})
	s.lists(puller.Filter{Image: was.Image})
	s.lists(puller.Filter{}, other)
	s.lists(puller.Filter{State: puller.StateFailed, Kind: "run", Image: other.Job.Image}, other)
	s.prune(was.FinishedAt.Add(time.Nanosecond), 10, 0)

	s.save(3, NewRecord(1)) // goes on after all
	s.lists(puller.Filter{})
	s.lists(puller.Filter{State: puller.StateFailed, Kind: "run", Image: other.Job.Image})
	s.loads(3, NewRecord(1))
	s.prune(epoch.Add(1000*time.Hour), 0, 0)
}

func (f Fixture) testPages(t *testing.T) {
	s := f.open(t)
	all := someRecords(rand.New(rand.NewPCG(5, 6)), 150)
	s.save(1, all...)
	for _, filter := range []puller.Filter{{Limit: 7}, {Limit: 9, State: puller.StateFailed}, {Limit: 2, Kind: "pull", Image: "registry.test/team/app-3:v1"}} {
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
