package bolt_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

// box is a state directory with what is logged about it.
type box struct {
	testing.TB
	dir string
	log strings.Builder
}

func newBox(t testing.TB) *box { return newBoxIn(t, t.TempDir()) }

// newMemoryBox is newBox for tests that save much, and whose subject is not the disk.
func newMemoryBox(t testing.TB) *box { return newBoxIn(t, storetest.MemoryDir(t)) }

func newBoxIn(t testing.TB, dir string) *box {
	b := &box{TB: t, dir: filepath.Join(dir, "state")}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) logger() logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(&b.log)
	return logger
}

// options have the file checked, as the daemon does.
func (b *box) options() bolt.Options { return bolt.Options{Log: b.logger(), Checker: checker} }

func (b *box) file() string { return filepath.Join(b.dir, "jobs.db") }

// open opens the store; the test's end closes it.
func (b *box) open() *bolt.Store {
	b.Helper()
	s, err := bolt.Open(b.Context(), b.dir, b.options())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func (b *box) aside() []string {
	b.Helper()
	files, err := filepath.Glob(b.file() + ".damaged-*")
	if err != nil {
		b.Fatal(err)
	}
	return files
}

func save(t testing.TB, s store.Store, seq uint64, records ...store.Record) {
	t.Helper()
	if err := s.Save(seq, records); err != nil {
		t.Fatal(err)
	}
}

func closeIt(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

var began = time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC)

func ended(n int) store.Record {
	return storetest.EndRecord(storetest.NewRecord(n), puller.StateSucceeded, began.Add(time.Duration(n)*time.Second))
}

func TestStore(t *testing.T) {
	boxes := make(map[store.Store]*box)
	storetest.Run(t, storetest.Fixture{
		Open: func(t *testing.T) store.Store {
			b := newBox(t)
			s := b.open()
			boxes[s] = b
			return s
		},
		Reopen: func(t *testing.T, s store.Store) store.Store {
			b := boxes[s]
			closeIt(t, s)
			next := b.open()
			boxes[next] = b
			return next
		},
	})
	for _, b := range boxes {
		if b.log.Len() > 0 {
			t.Errorf("something is logged: %s", &b.log)
		}
	}
}

func TestOneProcessHasTheStore(t *testing.T) {
	b := newBox(t)
	b.dir = filepath.Join(b.dir, "a", "state") // made
	s := b.open()
	if info, err := os.Stat(b.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(b.file()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	_, err := bolt.Open(t.Context(), b.dir, b.options())
	if err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir) || !strings.Contains(err.Error(), "another towline (pid "+strconv.Itoa(os.Getpid())+") uses it") {
		t.Errorf("the second one is told %v", err)
	}
	closeIt(t, s)
	closeIt(t, s) // again, for nothing
	b.open()
}

func TestClosedStore(t *testing.T) {
	b := newBox(t)
	s := b.open()
	save(t, s, 1, storetest.NewRecord(1))
	closeIt(t, s)
	_, _, loadErr := s.Load()
	_, recordErr := s.Record(storetest.RecordID(1))
	_, keyedErr := s.Keyed("key-1")
	_, endedErr := s.Ended(puller.Filter{})
	_, pruneErr := s.Prune(time.Now(), 0, 0)
	for _, err := range []error{loadErr, recordErr, keyedErr, endedErr, pruneErr, s.Save(2, nil)} {
		if puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), "closed") {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestUnknownKindIsRefused(t *testing.T) {
	s := newBox(t).open()
	odd := storetest.NewRecord(2)
	odd.Job.Kind = "push"
	if err := s.Save(5, []store.Record{storetest.NewRecord(1), odd}); puller.KindOf(err) != puller.ErrInternal || !strings.Contains(err.Error(), "push") {
		t.Errorf("it gave %v", err)
	}
	if seq, unended, err := s.Load(); seq != 0 || len(unended) != 0 || err != nil {
		t.Errorf("something of it is kept: %d, %d records, %v", seq, len(unended), err)
	}
}

func discard() logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logger
}
