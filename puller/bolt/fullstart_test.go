package bolt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestOpenOnFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		before        func(t *testing.T, b *box)
		unended       int
		lost, noSpare bool
	}{
		"with no file yet": {before: func(*testing.T, *box) {}, noSpare: true},
		"with a file": {before: func(t *testing.T, b *box) {
			s := b.open()
			save(t, s, 7, storetest.NewRecord(1), ended(2))
			closeIt(t, s)
		}, unended: 1},
		"with a file that is damaged": {before: func(t *testing.T, b *box) {
			s := b.open()
			save(t, s, 7, storetest.NewRecord(1))
			closeIt(t, s)
			if err := os.WriteFile(filepath.Join(b.dir, "jobs.db"), []byte("no store"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, lost: true, noSpare: true},
		"with no file for the lock": {before: func(t *testing.T, b *box) {
			s := b.open()
			save(t, s, 7, storetest.NewRecord(1))
			closeIt(t, s)
			if err := os.Remove(filepath.Join(b.dir, "lock")); err != nil {
				t.Fatal(err)
			}
		}, unended: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			storetest.SmallDisk(t, b.dir, "16m")
			c.before(t, b)
			free := storetest.FillDisk(t, b.dir)
			s := b.open()
			seq, unended, err := s.Load()
			if err != nil || len(unended) != c.unended {
				t.Errorf("%d have not ended, %v", len(unended), err)
			}
			if c.lost && seq < uint64(time.Now().Add(-time.Hour).UnixMicro()) {
				t.Errorf("numbers go on from %d", seq)
			}
			if _, err := s.Record(storetest.RecordID(99)); puller.KindOf(err) != puller.ErrNotFound {
				t.Errorf("a job that is not there: %v", err)
			}
			if _, err := s.Keyed("none"); puller.KindOf(err) != puller.ErrNotFound {
				t.Errorf("a key that is not there: %v", err)
			}
			if _, err := s.Ended(puller.Filter{Limit: 9}); err != nil {
				t.Error(err)
			}
			if _, err := s.Last(9, 1<<20); err != nil {
				t.Error(err)
			}
			if _, whole, err := s.Private(); err != nil || whole == c.lost {
				t.Errorf("what came with credentials is all known: %v, %v", whole, err)
			}
			if _, err := s.Prune(time.Now(), 1000, 1<<20); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := s.Save(8, nil); puller.KindOf(err) != puller.ErrNoSpace || !strings.Contains(err.Error(), "make space there") {
					t.Errorf("what asks for room: %v", err)
				}
			}
			// A full disk of the engine is something else.
			if err := s.Records().Save("sets", map[string][]byte{"a": make([]byte, 1<<20)}); puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), "make space there") {
				t.Errorf("a record: %v", err)
			}
			for _, r := range unended { // how known jobs change is kept
				save(t, s, 8, r)
			}
			if err := s.Save(8, []store.Record{storetest.NewRecord(3)}); c.noSpare && puller.KindOf(err) != puller.ErrNoSpace {
				t.Errorf("a new job without a file: %v", err)
			}
			free()
			if err := s.Save(seq+9, nil); err != nil {
				t.Errorf("with space again: %v", err)
			}
			save(t, s, seq+9, storetest.NewRecord(4))
			closeIt(t, s)
			s = b.open()
			if got, unended, err := s.Load(); err != nil || got != seq+9 || len(unended) < c.unended+1 {
				t.Errorf("the next start finds seq %d, %d have not ended, %v", got, len(unended), err)
			}
			closeIt(t, s)
			if n := len(b.aside()); (n > 0) != c.lost {
				t.Errorf("%d files were set aside", n)
			}
		})
	}
}
