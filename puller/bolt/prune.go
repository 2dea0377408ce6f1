package bolt

import (
	"bytes"
	"errors"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
)

const (
	// pruneStep is how many jobs one transaction drops, so that it takes little
	// memory.
	pruneStep = 1000
	// elementSize is how many bytes a page of bbolt has for each key, in addition to
	// the key and its value.
	elementSize = 16
)

// Prune implements store.Store. If more than half of a file of some size is free
// then, Prune copies the rest to a new file. Readers do not wait for that.
func (s *Store) Prune(before time.Time, keep int, size int64) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	const op = "prune jobs"
	switch {
	case s.closed:
		return 0, s.fault(op, errClosed)
	case s.blank:
		return 0, nil
	case s.db == nil:
		return 0, s.fault(op, s.failure)
	}
	defer s.release() // it reads all pages
	dropped := 0
	for {
		n, err := s.pruneSome(before, keep, size)
		if err != nil {
			return dropped, s.fault(op, err)
		}
		dropped += n
		if n < pruneStep {
			break
		}
	}
	if err := s.compact(); err != nil {
		s.log.WithFields(logrus.Fields{"path": s.path(fileName), "error": advise(err)}).
			Warn("the file of jobs could not be made smaller; its free space is used for new jobs")
	}
	return dropped, nil
}

// pruneSome drops up to pruneStep jobs.
func (s *Store) pruneSome(before time.Time, keep int, size int64) (dropped int, err error) {
	// Mostly nothing is due, which needs no flush.
	var due []entry
	err = s.db.View(func(tx *bbolt.Tx) error {
		due, err = findDue(tx, timeKey(before), keep, size)
		return err
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	return len(due), s.db.Update(func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		for _, e := range due {
			if err := b.drop(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// findDue returns the first pruneStep jobs to drop, in the order of their end.
func findDue(tx *bbolt.Tx, before [timeSize]byte, keep int, size int64) ([]entry, error) {
	b, err := open(tx)
	if err != nil {
		return nil, err
	}
	stats := b.ended.Stats() // reads no record
	excess, excessBytes := stats.KeyN-max(keep, 0), int64(stats.LeafInuse)-size
	var due []entry
	for c, key, value := first(b.byTime); key != nil && len(due) < pruneStep; key, value = c.Next() {
		e, err := readEntry(key, value)
		if err != nil {
			return nil, err
		}
		if len(due) >= excess && excessBytes <= 0 && bytes.Compare(e.end[:], before[:]) >= 0 {
			break
		}
		due = append(due, e)
		excessBytes -= int64(elementSize + len(e.id) + len(b.ended.Get(e.id)))
	}
	return due, nil
}

// compact shortens a file that is mostly free.
func (s *Store) compact() error {
	old := s.db
	db, err := old.Compact(s.path(newName))
	if db == nil {
		return err
	}
	s.mu.Lock() // waits for readers of the old one
	s.db = db
	s.mu.Unlock()
	return errors.Join(err, old.Close())
}
