package storetest

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// checkedStore is a store in a test.
type checkedStore struct {
	store.Store
	*testing.T
	f Fixture
}

func (f Fixture) open(t *testing.T) *checkedStore {
	t.Helper()
	s := &checkedStore{f.Open(t), t, f}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *checkedStore) reopen() {
	s.Helper()
	s.Store = s.f.Reopen(s.T, s.Store)
}

func (s *checkedStore) save(seq uint64, records ...store.Record) {
	s.Helper()
	if err := s.Save(seq, records); err != nil {
		s.Fatal(err)
	}
}

func (s *checkedStore) prune(before time.Time, keep, want int) {
	s.Helper()
	if n, err := s.Prune(before, keep, math.MaxInt64); n != want || err != nil {
		s.Errorf("%d were pruned, not %d: %v", n, want, err)
	}
}

func (s *checkedStore) has(want store.Record) {
	s.Helper()
	got, err := s.Record(want.Job.ID)
	if err != nil {
		s.Error(err)
	} else if diff := difference(want, got); diff != "" {
		s.Errorf("the record differs (-want +got):\n%s", diff)
	}
}

func (s *checkedStore) hasNot(id string) {
	s.Helper()
	if got, err := s.Record(id); puller.KindOf(err) != puller.ErrNotFound {
		s.Errorf("the record %s should not be there: %+v, %v", id, got, err)
	}
}

// keyed tests which job holds a key, "" for none.
func (s *checkedStore) keyed(key, id string) {
	s.Helper()
	switch got, err := s.Keyed(key); {
	case id == "" && puller.KindOf(err) != puller.ErrNotFound:
		s.Errorf("the key %q is held by %s, %v", key, got.Job.ID, err)
	case id != "" && (err != nil || got.Job.ID != id || got.Key != key):
		s.Errorf("the key %q is held by %q with the key %q, not by %s: %v", key, got.Job.ID, got.Key, id, err)
	}
}

func (s *checkedStore) loads(seq uint64, want ...store.Record) {
	s.Helper()
	gotSeq, got, err := s.Load()
	if err != nil {
		s.Fatal(err)
	}
	if gotSeq != seq {
		s.Errorf("the seq is %d, not %d", gotSeq, seq)
	}
	if diff := difference(want, got); diff != "" {
		s.Errorf("the records that are loaded differ (-want +got):\n%s", diff)
	}
}

func (s *checkedStore) lists(f puller.Filter, want ...store.Record) {
	s.Helper()
	got, err := s.Ended(f)
	if err != nil {
		s.Fatal(err)
	}
	jobs := make([]puller.Job, len(want))
	for i, r := range want {
		jobs[i] = r.Job
	}
	if diff := difference(jobs, got); diff != "" {
		s.Errorf("%+v chooses %s, not %s (-want +got):\n%s", f, idsOf(got), idsOf(jobs), diff)
	}
}

// last checks which records ended last, in that order.
func (s *checkedStore) last(n int, want ...store.Record) {
	s.Helper()
	got, err := s.Last(n, math.MaxInt64)
	if err != nil {
		s.Fatal(err)
	}
	if diff := difference(want, got); diff != "" {
		s.Errorf("the last %d differ (-want +got):\n%s", n, diff)
	}
}

// difference compares records and jobs. Some have fields of their own package.
func difference[T any](want, got T) string {
	if v := reflect.ValueOf(want); reflect.DeepEqual(want, got) || v.Kind() == reflect.Slice && v.Len()+reflect.ValueOf(got).Len() == 0 {
		return ""
	}
	return cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true }))
}

func idsOf(jobs []puller.Job) string {
	ids := make([]string, len(jobs))
	for i, j := range jobs {
		ids[i] = strings.TrimLeft(strings.TrimPrefix(j.ID, "01KAKM"), "0")
	}
	return fmt.Sprintf("%q", ids)
}

func ended(n int) store.Record {
	return EndRecord(NewRecord(n), puller.StateSucceeded, epoch.Add(time.Duration(n)*time.Minute))
}
