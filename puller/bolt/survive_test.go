package bolt_test

import (
	"bytes"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// A small store: what it holds before its last Save and after.
const (
	endedJobs = 60
	lastSeq   = 77
)

func fill(t testing.TB, s store.Store) {
	t.Helper()
	var records []store.Record
	for n := range endedJobs {
		records = append(records, ended(n))
	}
	save(t, s, 1, records...)
	save(t, s, 2, storetest.NewRecord(100), storetest.NewRecord(101))
	save(t, s, lastSeq-1, ended(100), storetest.NewRecord(102))
	save(t, s, lastSeq, storetest.NewRecord(103))
}

// master is the file of a small store.
func master(t testing.TB) []byte {
	t.Helper()
	b := newMemoryBox(t)
	s := b.open()
	fill(t, s)
	closeIt(t, s)
	data, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimRight(data, "\x00") // it is grown ahead
}

func pages(data []byte) []byte {
	size := os.Getpagesize()
	return append(data, make([]byte, (size-len(data)%size)%size)...)
}

// survive opens a store on a file and uses it in every way. Whatever the file
// is: all is there, or it was set aside; where a record alone is damaged it is
// an error; and nothing is ever wrong.
func survive(t *testing.T, what string, data []byte) (kept bool) {
	t.Helper()
	b := newMemoryBox(t)
	if err := os.WriteFile(b.file(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(t.Context(), b.dir, b.options())
	if err != nil {
		t.Errorf("%s: Open: %v", what, err)
		return false
	}
	defer s.Close()
	seq, unended, err := s.Load()
	if err != nil {
		t.Errorf("%s: Load: %v", what, err)
	}
	switch aside := b.aside(); {
	case len(aside) == 1:
		was, err := os.ReadFile(aside[0])
		if err != nil || !bytes.Equal(was, data) {
			t.Errorf("%s: what was set aside is not what was there: %v", what, err)
		}
		if log := b.log.String(); !strings.Contains(log, "level=error") || !strings.Contains(log, aside[0]) {
			t.Errorf("%s: the log does not tell of it: %s", what, log)
		}
		if len(unended) != 0 {
			t.Errorf("%s: the new store is not empty", what)
		}
		if seq <= lastSeq {
			t.Errorf("%s: the numbers begin anew, at %d", what, seq)
		}
		usable(t, what, s)
		return false
	case len(aside) > 1:
		t.Errorf("%s: set aside twice: %q", what, aside)
	}
	want := []store.Record{storetest.NewRecord(101), storetest.NewRecord(102), storetest.NewRecord(103)}
	if seq == lastSeq-1 && strings.Contains(b.log.String(), "one of the two headers") {
		want = want[:2]
	} else if seq != lastSeq {
		t.Errorf("%s: the seq is %d", what, seq)
	}
	if !reflect.DeepEqual(unended, want) {
		t.Errorf("%s: what has not ended is %+v", what, unended)
	}
	readable(t, what, s, nil)
	usable(t, what, s)
	return true
}

// readable reads all that ended: each is right, or an error.
func readable(t *testing.T, what string, s store.Store, others map[string]store.Record) (errs int) {
	t.Helper()
	want := make(map[string]store.Record)
	for n := range endedJobs {
		want[storetest.RecordID(n)] = ended(n)
	}
	want[storetest.RecordID(100)] = ended(100)
	for id, r := range want {
		for _, find := range []func() (store.Record, error){
			func() (store.Record, error) { return s.Record(id) },
			func() (store.Record, error) { return s.Keyed(r.Key) },
		} {
			got, err := find()
			if err != nil {
				errs++
				if k := puller.KindOf(err); k != puller.ErrInternal && k != puller.ErrNotFound {
					t.Errorf("%s: reading gives %v", what, err)
				}
			} else if !reflect.DeepEqual(got, r) {
				t.Errorf("%s: record %s is %+v", what, id, got)
			}
		}
	}
	for _, f := range []puller.Filter{{Limit: 1000}, {State: puller.StateSucceeded}, {Kind: "pull", Image: ended(3).Job.Image}} {
		list, err := s.Ended(f)
		if err != nil {
			errs++
			if puller.KindOf(err) != puller.ErrInternal {
				t.Errorf("%s: listing gives %v", what, err)
			}
		}
		for _, j := range list {
			if !reflect.DeepEqual(j, want[j.ID].Job) && !reflect.DeepEqual(j, others[j.ID].Job) {
				t.Errorf("%s: listed is %+v", what, j)
			}
		}
	}
	return errs
}

// usable changes the store in every way. Either all of it works, or a change
// finds damage: then no Save works from there on.
func usable(t *testing.T, what string, s store.Store) (works bool) {
	t.Helper()
	damaged := false
	check := func(err error) {
		t.Helper()
		switch {
		case err == nil && damaged:
			t.Errorf("%s: a change works after damage was found", what)
		case err != nil && (puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), "restart towline")):
			t.Errorf("%s: a change gives %v", what, err)
		case err != nil:
			damaged = true
		}
	}
	for n := range 5 { // beside and over those that are there
		r := ended(n * 25)
		r.Job.Attempt = 9
		check(s.Save(uint64(1000+n), []store.Record{r, storetest.NewRecord(300 + n)}))
	}
	for _, prune := range []func() (int, error){
		func() (int, error) { return s.Prune(ended(20).Job.FinishedAt, 30, math.MaxInt64) },
		func() (int, error) { return s.Prune(began, 0, 0) },
	} {
		if _, err := prune(); err != nil && puller.KindOf(err) != puller.ErrInternal {
			t.Errorf("%s: a prune gives %v", what, err)
		}
	}
	check(s.Save(2000, []store.Record{storetest.NewRecord(500)}))
	if damaged {
		return false
	}
	if got, err := s.Record(storetest.RecordID(500)); err != nil || !reflect.DeepEqual(got, storetest.NewRecord(500)) {
		t.Errorf("%s: in the end a record is %+v, %v", what, got, err)
	}
	if seq, _, err := s.Load(); seq != 2000 || err != nil {
		t.Errorf("%s: in the end the seq is %d, %v", what, seq, err)
	}
	return true
}
