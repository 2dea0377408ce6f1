// Package bolt keeps jobs in one file, by bbolt.
//
// Every Save is one transaction: it is on disk, flushed, when Save returns,
// and at any moment at which the process is killed or the power fails, the
// file holds what the last Save left. What no transaction helps against is a
// file that is damaged by others: by a disk that fails, by a copy over it, by
// what cuts it off. Such a file is set aside under another name and a new one
// is begun; it never ends the process.
package bolt

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
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
)

// Names in the state directory.
const (
	fileName = "jobs.db"
	newName  = "jobs.db.new" // a file that is not complete yet
	lockName = "lock"
	roomName = "room" // is there for a moment
)

// Store is a puller.Store. It starts no goroutines.
type Store struct {
	dir  string
	log  logrus.FieldLogger
	lock *os.File

	writing sync.Mutex // one Save or Prune at a time
	values  bytes.Buffer
	id      string // of Instance
	unended int    // how many records have not ended

	mu     sync.RWMutex // held by readers while they read
	closed bool
	db     *database     // nil between a file that is set aside and the next
	damage error         // why there is none
	blank  bool          // there is none since the start, for want of space
	floor  atomic.Uint64 // above the numbers of a file that was set aside, until the first Save

	read atomic.Int64 // records since the memory of the map was given back
}

var _ puller.Store = (*Store)(nil)

// Open opens the store in a state directory, which is made if it is not there.
// It fails at once if another process has it open, and where the directory or
// the file cannot be used. It does not fail because of a file that is damaged:
// that one is set aside, which is logged as an error, and a new one is begun;
// nor because the disk is full: a new file is then begun by the first Save that
// finds space, and until then nothing is in the store. It reads the whole file
// once.
func Open(dir string, log logrus.FieldLogger) (*Store, error) {
	s := &Store{dir: dir, log: log}
	err := s.open()
	s.id = cmp.Or(s.id, rand.Text()) // the first Save keeps it
	if err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, fmt.Errorf("state_dir %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return advise(err)
	}
	var err error
	if s.lock, err = lockDir(s.dir); err != nil {
		return advise(err)
	}
	if err := os.Remove(s.path(newName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return advise(err)
	}
	info, err := os.Stat(s.path(fileName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return advise(s.start(nil))
	case err != nil:
		return advise(err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file; move it away", fileName)
	}
	db, err := openDatabase(s.path(fileName))
	if err == nil {
		if err = s.examine(db); err == nil {
			s.db = db
			return nil
		}
		db.close()
	}
	if isDamage(err) {
		return advise(s.start(err))
	}
	return advise(err)
}

// start begins a new file, or leaves that to Save where the disk is full.
func (s *Store) start(damage error) error {
	err := s.begin(damage)
	if isFull(err) {
		s.blank = true
		s.log.WithError(s.fault("begin a new store", err)).Error("there is no space for the file of jobs; it is begun when there is")
		return nil
	}
	return err
}

// examine reads what a start needs, so that damage to it shows now.
func (s *Store) examine(db *database) error {
	if db.half {
		s.log.WithField("path", s.path(fileName)).Warn("one of the two headers of the store is damaged, as by a power cut while it was written; going on from the other one, which may lack the last change")
	}
	return db.view(func(tx *bbolt.Tx) error {
		_, unended, err := load(tx)
		s.unended = len(unended)
		if err != nil {
			return err
		}
		s.id, err = readInstance(tx)
		return err
	})
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Close implements puller.Store. It waits for those who read.
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
		err = s.db.close()
		s.db = nil
	}
	return errors.Join(err, s.lock.Close())
}

// Load implements puller.Store.
func (s *Store) Load() (seq uint64, unended []puller.Record, err error) {
	err = s.view("load jobs", func(tx *bbolt.Tx) (err error) {
		seq, unended, err = load(tx)
		return err
	})
	if err := unlessBlank(err); err != nil {
		return 0, nil, err
	}
	return max(seq, s.floor.Load()), unended, nil
}

func load(tx *bbolt.Tx) (uint64, []puller.Record, error) {
	b, err := open(tx)
	if err != nil {
		return 0, nil, err
	}
	head, err := b.head()
	if err != nil {
		return 0, nil, err
	}
	var unended []puller.Record
	for c, id, value := first(b.unended); id != nil; id, value = c.Next() {
		r, err := decode(id, value)
		if err != nil {
			return 0, nil, err
		}
		if r.Job.State.Ended() {
			return 0, nil, damagef("job %s has ended, and is kept as one that has not", id)
		}
		unended = append(unended, r)
	}
	if uint64(len(unended)) != head.unended {
		return 0, nil, damagef("%d jobs that have not ended are there, not %d", len(unended), head.unended)
	}
	return head.seq, unended, nil
}

// Record implements puller.Store.
func (s *Store) Record(id string) (r puller.Record, err error) {
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

// Keyed implements puller.Store.
func (s *Store) Keyed(key string) (r puller.Record, err error) {
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
			return damagef("job %s has a key, and is not there", id)
		}
		r, err = decode(id, value)
		return err
	})
	return r, err
}

// Last implements puller.Store.
func (s *Store) Last(n int, size int64) (ended []puller.Record, err error) {
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
				return damagef("job %s is in an index, and is not there", e.id)
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
		return s.fault(op, s.damage)
	}
	return s.fault(op, s.db.view(read))
}

// errBlank is what is read of a store that has no file yet.
var errBlank = puller.Errorf(puller.ErrNotFound, "it is not known")

// unlessBlank is nil for what is read of a store that has no file yet: lists of
// it are empty.
func unlessBlank(err error) error {
	if puller.KindOf(err) == puller.ErrNotFound {
		return nil
	}
	return err
}

// touchedMost is after how many records that were read the memory of the map
// is given back: the kernel counts up to 64 KiB for each as the process's.
const touchedMost = 500

// touched notes that records were read.
func (s *Store) touched(records int) {
	if s.read.Add(int64(records)) < touchedMost {
		return
	}
	s.read.Store(0)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed && s.db != nil {
		s.db.release()
	}
}

// head is what is kept beside the records.
type head struct{ seq, unended uint64 }

var headKey = []byte("head")

func (b *buckets) head() (head, error) {
	payload, err := unseal(b.meta.Get(headKey))
	switch {
	case err != nil:
		return head{}, fmt.Errorf("its head: %w", err)
	case len(payload) != 16:
		return head{}, damagef("its head: %d bytes long", len(payload))
	}
	return head{binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])}, nil
}

func (b *buckets) setHead(h head) error {
	value := binary.BigEndian.AppendUint64(make([]byte, sealSize, sealSize+16), h.seq)
	value = binary.BigEndian.AppendUint64(value, h.unended)
	seal(value)
	return b.meta.Put(headKey, value)
}
