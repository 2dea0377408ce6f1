package storetest_test

import (
	"errors"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Fixture{
		Open: func(*testing.T) store.Store { return storetest.New() },
		Reopen: func(t *testing.T, s store.Store) store.Store {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			return s.(*storetest.Store).Reopen()
		},
	})
}

func TestStoreFailsOnDemand(t *testing.T) {
	s := storetest.New()
	full := errors.New("no space left")
	r := storetest.NewRecord(1)
	var seen []store.Record
	s.OnSave(func(records []store.Record) {
		seen = records
		s.Record("") // the hook may use the store
	})
	s.Fail(full)
	if err := s.Save(1, []store.Record{r}); err != full || len(seen) != 1 {
		t.Errorf("a Save that is to fail: %v, after a look at %d records", err, len(seen))
	}
	if _, err := s.Record(r.Job.ID); puller.KindOf(err) != puller.ErrNotFound {
		t.Errorf("a Save that failed kept something: %v", err)
	}
	s.Fail(nil)
	if err := s.Save(2, []store.Record{r}); err != nil {
		t.Error(err)
	}
	next := s.Reopen()
	s.Damage()
	for range 2 {
		if err := s.Save(3, []store.Record{r}); puller.KindOf(err) != puller.ErrInternal {
			t.Errorf("a Save of a damaged store: %v", err)
		}
	}
	if s.Saves() != 4 {
		t.Errorf("%d Saves were counted", s.Saves())
	}
	anew := s.Reopen()
	s.Close()
	if err := s.Save(5, nil); err == nil {
		t.Error("a closed store saves")
	}
	if seq, unended, err := next.Load(); seq != 2 || len(unended) != 1 || err != nil {
		t.Errorf("the next start finds seq %d, %d records, %v", seq, len(unended), err)
	}
	if seq, unended, err := anew.Load(); seq <= 2 || len(unended) != 0 || err != nil {
		t.Errorf("the start after damage finds seq %d, %d records, %v", seq, len(unended), err)
	}
	if _, whole, err := anew.Private(); whole || err != nil {
		t.Errorf("the start after damage knows all private images, %v", err)
	}
}

func TestRecords(t *testing.T) {
	stores := make(map[store.Records]*storetest.Store)
	open := func(s *storetest.Store) store.Records {
		r := s.Records()
		stores[r] = s
		return r
	}
	storetest.RunRecords(t, storetest.RecordsFixture{
		Open: func(*testing.T) store.Records { return open(storetest.New()) },
		Reopen: func(t *testing.T, r store.Records) store.Records {
			if err := stores[r].Close(); err != nil {
				t.Error(err)
			}
			return open(stores[r].Reopen())
		},
	})
}
