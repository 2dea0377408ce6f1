package bolt_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// A disk that fills up loses nothing, and the store goes on when there is
// space again.
func TestFullDisk(t *testing.T) {
	t.Run("a limit to the size of files", func(t *testing.T) {
		b := newBox(t)
		var was syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		limit := func(l syscall.Rlimit) {
			t.Helper()
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
				t.Fatal(err)
			}
		}
		defer limit(was)
		testFull(t, b,
			func() { limit(syscall.Rlimit{Cur: 6 << 20, Max: was.Max}) },
			func() { limit(was) }, "")
	})
	t.Run("a small disk", func(t *testing.T) {
		b := newBox(t)
		resize := storetest.SmallDisk(t, b.dir, "6m")
		testFull(t, b, func() {}, func() { resize("60m") }, puller.ErrNoSpace)
	})
}

func bulky(n int) store.Record {
	r := ended(n)
	r.Events[2].Message = strings.Repeat("much to say ", 700)
	return r
}

func testFull(t *testing.T, b *box, small, large func(), kind puller.ErrorKind) {
	s := b.open()
	save(t, s, 1, storetest.NewRecord(5000))
	small()
	kept, failed := 0, 0
	for n := 0; failed < 20; n++ {
		if n == 500 {
			t.Fatal("the disk does not fill up")
		}
		batch := []store.Record{bulky(10 * kept), storetest.NewRecord(6000 + kept)}
		for i := 1; i < 10; i++ {
			batch = append(batch, bulky(10*kept+i))
		}
		err := s.Save(uint64(10+kept), batch)
		switch {
		case err == nil:
			kept++
			continue
		case kind != "" && puller.KindOf(err) != kind,
			!strings.Contains(err.Error(), "state_dir "+b.dir), kind != "" && !strings.Contains(err.Error(), "make space"):
			t.Fatalf("a Save on the full disk gives %v", err)
		}
		failed++
		for _, r := range batch {
			if _, err := s.Record(r.Job.ID); puller.KindOf(err) != puller.ErrNotFound {
				t.Fatalf("a Save that failed kept %s: %v", r.Job.ID, err)
			}
		}
	}
	holds := func(when string, seq uint64, s store.Store) {
		t.Helper()
		got, unended, err := s.Load()
		if got != seq || len(unended) != 1+kept || err != nil {
			t.Errorf("%s: seq %d, not %d, %d have not ended, not %d, %v", when, got, seq, len(unended), 1+kept, err)
		}
		for n := range 10 * kept {
			if r, err := s.Record(storetest.RecordID(n)); err != nil || !reflect.DeepEqual(r, bulky(n)) {
				t.Fatalf("%s: record %d: %v", when, n, err)
			}
		}
		if list, err := s.Ended(puller.Filter{State: puller.StateSucceeded, Limit: 1000}); len(list) != min(10*kept, 1000) || err != nil {
			t.Errorf("%s: %d are listed, not %d: %v", when, len(list), 10*kept, err)
		}
	}
	if kept == 0 {
		t.Fatal("nothing was kept")
	}
	holds("while it is full", uint64(9+kept), s)
	large()
	save(t, s, 500)
	holds("with space again", 500, s)
	for n := range 50 {
		save(t, s, uint64(501+n), bulky(9000+n))
	}
	if n, err := s.Prune(began, 10*kept, math.MaxInt64); n != 50 || err != nil {
		t.Errorf("%d were pruned: %v", n, err)
	}
	closeIt(t, s)
	s = b.open()
	if got, _, err := s.Load(); got != 550 || err != nil {
		t.Errorf("the next start finds seq %d, %v", got, err)
	}
	if n := len(b.aside()); n > 0 || b.log.Len() > 0 {
		t.Errorf("%d files were set aside: %s", n, fmt.Sprint(&b.log))
	}
	closeIt(t, s)
}
