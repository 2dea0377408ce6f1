// Package bolt keeps jobs, and records of other rooms, in one file, by bbolt.
//
// Every Save is one transaction: it is on disk, flushed, when Save returns.
// Whenever the process is killed or the power fails, the file holds what the
// last Save left. Transactions do not help against a file that is damaged from
// outside: by a failing disk, or by another program. A start has another
// process check the file, sets a damaged one aside under another name, and
// begins a new one. Damage that is found later does not end the process: from
// then on no change is taken, and the next start sets the file aside.
package bolt

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt/database"
	"github.com/towline/towline/puller/store"
)

// Store is a store.Store. None of its goroutines outlives a call.
type Store struct {
	dir     string
	log     logrus.FieldLogger
	checker []string
	lock    *os.File

	writing sync.Mutex             // one change at a time
	id      string                 // of Instance
	unended int                    // how many records have not ended
	records map[string]recordsSize // how much there is of each kind of Records

	mu      sync.RWMutex // held by readers while they read
	closed  bool
	db      *database.File // nil if the file could not be made, or not be opened again
	failure error          // why db is nil
	blank   bool           // there was no space for a file at the start, and since then
	floor   atomic.Uint64  // above all numbers of a file that was set aside; 0 after the first Save
}

var _ store.Store = (*Store)(nil)

// Options are what a Store needs beside its directory.
type Options struct {
	Log logrus.FieldLogger
	// Checker is a command with its arguments. The path of the file is added as the
	// last one. The command calls database.Check with the path and its standard output.
	// Without it, the file is not checked before it is opened.
	Checker []string
}

// Open opens the store in a state directory. It makes the directory, and takes
// away the rights of other users to it. Open fails at once if another process has
// the store open, or if the directory or the file can't be used.
//
// Open sets a damaged file aside, logs an error and begins a new file. On a full
// disk it opens an empty store without a file; the first Save that finds space
// makes the file. The check reads the whole file; Open fails if ctx ends before
// it.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, log: o.Log, checker: o.Checker}
	err := s.open(ctx)
	s.id = cmp.Or(s.id, rand.Text()) // the first Save keeps it
	if err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, fmt.Errorf("state_dir %s: %w", dir, advise(err))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := makeDir(s.dir, s.log); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockDir(s.dir); err != nil {
		return err
	}
	if err := os.Remove(s.path(newName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = s.openFile(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return s.start(nil)
	}
	if database.IsDamage(err) {
		return s.start(err)
	}
	return err
}

// openFile opens the file that is there.
func (s *Store) openFile(ctx context.Context) error {
	path := s.path(fileName)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file; move it away", fileName)
	case info.Size() < int64(2*os.Getpagesize()): // bbolt would begin a new one in an empty file
		return database.Damagef("it is cut off: %d bytes are left", info.Size())
	}
	readable, err := os.OpenFile(path, os.O_RDWR, 0) // missing rights are not for the check to find
	if err != nil {
		return err
	}
	readable.Close()
	if err := database.CheckApart(ctx, s.checker, path, s.log); err != nil {
		return err
	}
	db, err := database.Open(path)
	if err != nil {
		return err
	}
	if db.Half() {
		s.log.WithField("path", path).Warn("one of the two headers of the file of jobs is damaged, as by a power cut; the other one is used, and may lack the last change")
	}
	unended, id, err := examine(db)
	s.id = id // that of a file which is set aside stays the store's
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s.db, s.unended = db, unended
	return nil
}

// start begins a new file. On a full disk it leaves that to Save.
func (s *Store) start(damage error) error {
	err := s.begin(damage)
	if database.IsFull(err) {
		s.blank, s.failure = true, damage
		s.log.WithError(s.fault("begin a new store", err)).Error("there is no space for the file of jobs; it is made as soon as there is")
		return nil
	}
	return err
}

// examine reads all that a start needs, so that its damage is found now. It returns how
// many records have not ended, and the store's ID.
func examine(db *database.File) (unended int, id string, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		_, records, err := load(tx)
		if err != nil {
			return err
		}
		unended = len(records)
		if id, err = readInstance(tx); err != nil {
			return err
		}
		return examineRecords(tx)
	})
	return unended, id, err
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Close implements store.Store. It waits for readers.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.db != nil {
		err = s.db.Close()
		s.db = nil
	}
	return errors.Join(err, s.lock.Close())
}

// Load implements store.Store.
func (s *Store) Load() (seq uint64, unended []store.Record, err error) {
	err = s.view("load jobs", func(tx *bbolt.Tx) (err error) {
		seq, unended, err = load(tx)
		return err
	})
	if err := unlessBlank(err); err != nil {
		return 0, nil, err
	}
	return max(seq, s.floor.Load()), unended, nil
}

func load(tx *bbolt.Tx) (uint64, []store.Record, error) {
	b, err := open(tx)
	if err != nil {
		return 0, nil, err
	}
	head, err := b.head()
	if err != nil {
		return 0, nil, err
	}
	var unended []store.Record
	for c, id, value := first(b.unended); id != nil; id, value = c.Next() {
		r, err := decode(id, value)
		if err != nil {
			return 0, nil, err
		}
		if r.Job.State.Ended() {
			return 0, nil, database.Damagef("job %s has ended, and is among those that have not", id)
		}
		unended = append(unended, r)
	}
	if uint64(len(unended)) != head.unended {
		return 0, nil, database.Damagef("%d jobs that have not ended are there, not %d", len(unended), head.unended)
	}
	return head.seq, unended, nil
}

// Record implements store.Store.
func (s *Store) Record(id string) (r store.Record, err error) {
	err = s.view("read job "+id, func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		value := b.find([]byte(id))
		if value == nil {
			return puller.Errorf(puller.ErrNotFound, "it is not known")
		}
		r, err = decode([]byte(id), value)
		return err
	})
	return r, err
}

// Keyed implements store.Store.
func (s *Store) Keyed(key string) (r store.Record, err error) {
	err = s.view("read the job of an idempotency key", func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		id := b.keys.Get([]byte(key))
		if id == nil {
			return puller.Errorf(puller.ErrNotFound, "it is not known")
		}
		value := b.find(id)
		if value == nil {
			return database.Damagef("job %s has a key, but no record", id)
		}
		r, err = decode(id, value)
		return err
	})
	return r, err
}

// Last implements store.Store.
func (s *Store) Last(n int, size int64) (ended []store.Record, err error) {
	err = s.view("read the jobs that ended last", func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		c := b.byTime.Cursor()
		for key, value := c.Last(); key != nil && len(ended) < n; key, value = c.Prev() {
			e, err := readEntry(key, value)
			if err != nil {
				return err
			}
			record := b.ended.Get(e.id)
			if record == nil {
				return database.Damagef("job %s is in an index, but has no record", e.id)
			}
			if size -= int64(len(record)); size < 0 && len(ended) > 0 {
				break
			}
			r, err := decode(e.id, record)
			if err != nil {
				return err
			}
			ended = append(ended, r)
		}
		return nil
	})
	slices.Reverse(ended)
	return ended, unlessBlank(err)
}

// view reads, and gives an error its form.
func (s *Store) view(op string, read func(*bbolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return s.fault(op, errClosed)
	case s.blank:
		return s.fault(op, errBlank)
	case s.db == nil:
		return s.fault(op, s.failure)
	}
	return s.fault(op, s.db.View(read))
}

// errBlank is the answer of a store that has no file yet.
var errBlank = puller.Errorf(puller.ErrNotFound, "it is not known")

// unlessBlank returns no error for a store that has no file yet: its lists are
// empty.
func unlessBlank(err error) error {
	if puller.KindOf(err) == puller.ErrNotFound {
		return nil
	}
	return err
}

// release takes the pages of the file that were read out of the process's memory.
func (s *Store) release() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db != nil {
		s.db.Release()
	}
}
