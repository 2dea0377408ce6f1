package storetest_test

import (
	"errors"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/storetest"
)

func TestTheStoreInMemoryConforms(t *testing.T) {
	storetest.Run(t, storetest.Fixture{
		Open: func(*testing.T) puller.Store { return storetest.New() },
		Reopen: func(t *testing.T, s puller.Store) puller.Store {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			return s.(*storetest.Store).Reopen()
		},
	})
}

func TestTheStoreInMemoryFailsWhenItIsTold(t *testing.T) {
	s := storetest.New()
	full := errors.New("no space left")
	r := storetest.NewRecord(1)
	var seen []puller.Record
	s.OnSave(func(records []puller.Record) {
		seen = records
		s.Record("") // the hook may use the store
	})
	s.Fail(full)
	if err := s.Save(1, []puller.Record{r}); err != full || len(seen) != 1 {
		t.Errorf("a Save that is to fail: %v, after a look at %d records", err, len(seen))
	}
	if _, err := s.Record(r.Job.ID); puller.KindOf(err) != puller.ErrNotFound {
		t.Errorf("a Save that failed kept something: %v", err)
	}
	s.Fail(nil)
	if err := s.Save(2, []puller.Record{r}); err != nil {
		t.Error(err)
	}
	s.Lose()
	if err := s.Save(3, nil); err != puller.ErrStoreLost {
		t.Errorf("a Save that is to lose all: %v", err)
	}
	if seq, unended, err := s.Load(); seq != 0 || len(unended) != 0 || err != nil {
		t.Errorf("what was lost is there: %d, %+v, %v", seq, unended, err)
	}
	if err := s.Save(4, []puller.Record{r}); err != nil || s.Saves() != 4 {
		t.Errorf("after it: %d Saves, %v", s.Saves(), err)
	}
	next := s.Reopen()
	s.Close()
	if err := s.Save(5, nil); err == nil {
		t.Error("a closed store saves")
	}
	if seq, _, err := next.Load(); seq != 4 || err != nil {
		t.Errorf("the next start finds seq %d, %v", seq, err)
	}
}
