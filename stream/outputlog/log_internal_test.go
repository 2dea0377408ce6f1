package outputlog

import (
	"path/filepath"
	"strings"
	"testing"
)

// A reader takes a snapshot and reads after that. Meanwhile the files may have
// got entries that it may not have yet.
func TestReadStopsAtItsSnapshot(t *testing.T) {
	l, err := Create(filepath.Join(t.TempDir(), "log"), 4000)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	order := uint64(0)
	write := func(n int) {
		t.Helper()
		for range n {
			order++
			if err := l.Append(Entry{Order: order, Type: "log", Data: []byte(strings.Repeat("x", 300))}, Offsets{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, since := range []int{0, 1, 2, 3, 5, 8, 30} {
		write(20)
		old := l.Snapshot()
		write(since)
		cursor := l.Seek(old.segments[0].first)
		for more := true; more; {
			var entries []Entry
			if entries, more, err = l.Read(&cursor, old, 1<<60); err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Order > old.Last {
					t.Errorf("%d entries later: entry %d is after the snapshot, %d", since, e.Order, old.Last)
				}
			}
		}
		if cursor.order != old.Last {
			t.Errorf("%d entries later: read up to %d of %d", since, cursor.order, old.Last)
		}
	}
}

func TestRecords(t *testing.T) {
	good := record{Entry: Entry{Order: 9, Type: "log", Data: []byte(`{"job":""}`), Job: 8}, prev: 8, offsets: Offsets{1, 2}}
	b := appendRecord(nil, &good)
	r, size := parseRecord(append(b, b...))
	if size != len(b) || r.Order != 9 || r.prev != 8 || r.offsets != good.offsets || r.Type != "log" || r.Job != 8 || string(r.Data) != `{"job":""}` {
		t.Errorf("came back as %+v of %d bytes", r, size)
	}
	for n := range b {
		if _, size := parseRecord(b[:n]); size <= n {
			t.Errorf("of %d bytes %d are a record", n, size)
		}
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, size := parseRecord(b); size != 0 && size <= len(b) {
				t.Errorf("with byte %d changed it is a record", i)
			}
			b[i] ^= 1 << bit
		}
	}
	for name, change := range map[string]func(*record){
		"no order":               func(r *record) { r.Order, r.prev = 0, 0 },
		"a later one before":     func(r *record) { r.prev = 10 },
		"a job beyond its end":   func(r *record) { r.Job = len(r.Data) + 1 },
		"more than is ever read": func(r *record) { r.Data = make([]byte, maxData+1) },
	} {
		bad := good
		change(&bad)
		if _, size := parseRecord(appendRecord(nil, &bad)); size != 0 {
			t.Errorf("with %s it is a record", name)
		}
	}
}
