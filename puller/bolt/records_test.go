package bolt_test

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestRecords(t *testing.T) {
	type opened struct {
		*box
		*bolt.Store
	}
	all := make(map[store.Records]opened)
	open := func(b *box) store.Records {
		s := b.open()
		r := s.Records()
		all[r] = opened{b, s}
		return r
	}
	storetest.RunRecords(t, storetest.RecordsFixture{
		Open: func(t *testing.T) store.Records { return open(newMemoryBox(t)) },
		Reopen: func(t *testing.T, r store.Records) store.Records {
			closeIt(t, all[r].Store)
			return open(all[r].box)
		},
	})
	for _, o := range all {
		if o.log.Len() > 0 {
			t.Errorf("something is logged: %s", &o.log)
		}
	}
}

// hasRecords checks the records of a kind.
func hasRecords(t *testing.T, s *bolt.Store, kind string, want map[string][]byte) {
	t.Helper()
	got, err := s.Records().Load(kind)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", kind, diff)
	}
}

// TestRecordsBesideJobs has records in a file with jobs, which an older build began.
func TestRecordsBesideJobs(t *testing.T) {
	t.Parallel()
	b := newMemoryBox(t)
	storetest.WriteOlder(t, b.dir)
	s := b.open()
	hasRecords(t, s, "set", map[string][]byte{})
	want := map[string][]byte{"web": []byte(`{"images":["a"]}`), "db": []byte("{}")}
	if err := s.Records().Save("set", want); err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // so much that Prune copies the file
		r := ended(i)
		r.Events[1].Message = strings.Repeat("x", 512<<10)
		save(t, s, uint64(1000+i), r)
	}
	if _, err := s.Prune(time.Now(), 0, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(b.file()); err != nil || info.Size() > 8<<20 {
		t.Fatalf("the file was not copied: %d bytes, %v", info.Size(), err)
	}
	hasRecords(t, s, "set", want)
	closeIt(t, s)
	s = b.open()
	hasRecords(t, s, "set", want)
	if _, unended, err := s.Load(); err != nil || len(unended) == 0 {
		t.Errorf("%d jobs have not ended, %v", len(unended), err)
	}
}

func TestDamagedRecord(t *testing.T) {
	b := newBox(t)
	s := b.open()
	if err := s.Records().Save("set", map[string][]byte{"web": []byte("a value that is easy to find")}); err != nil {
		t.Fatal(err)
	}
	save(t, s, 1, storetest.NewRecord(1), storetest.NewRecord(2))
	closeIt(t, s)
	content, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.ReplaceAll(string(content), "easy to find", "easy to lose")
	if err := os.WriteFile(b.file(), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	s = b.open()
	hasRecords(t, s, "set", map[string][]byte{})
	if len(b.aside()) != 1 || !strings.Contains(b.log.String(), "wrong checksum") || !strings.Contains(b.log.String(), "sets, leases") {
		t.Errorf("%d files were set aside, and the log is %s", len(b.aside()), &b.log)
	}
	save(t, s, 2, storetest.NewRecord(3))
	closeIt(t, s)
	if _, unended, err := b.open().Load(); len(unended) != 1 || err != nil || len(b.aside()) != 1 {
		t.Errorf("of the new file, %d jobs have not ended, %v, and %d files were set aside", len(unended), err, len(b.aside()))
	}
}
