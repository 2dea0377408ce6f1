package bolt

import (
	"bytes"
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
)

const (
	// pruneStep is how many jobs are dropped in one transaction, so that it
	// takes little memory, and what was done holds.
	pruneStep = 1000
	// compactFrom is the size in bytes from which on a file is worth another,
	// smaller one, and compactStep how many bytes of it are copied at a time.
	compactFrom = 8 << 20
	compactStep = 4 << 20
	// elementSize is how many bytes bbolt keeps in a page for each key beside it
	// and its value.
	elementSize = 16
)

// Prune implements puller.Store. Where more than half of a file of some size
// is free after it, what is left is copied to a new one, which takes as long
// as that takes; those who read go on meanwhile.
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
	defer s.touched(touchedMost) // it counts all there are
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
			Warn("the file of jobs could not be made smaller; its free space is used again for jobs to come")
	}
	return dropped, nil
}

// pruneSome drops up to pruneStep jobs.
func (s *Store) pruneSome(before time.Time, keep int, size int64) (dropped int, err error) {
	// Most times there is nothing to do, which needs no flush.
	var due []entry
	err = s.db.view(func(tx *bbolt.Tx) error {
		due, err = findDue(tx, timeKey(before), keep, size)
		return err
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	return len(due), s.db.update(func(tx *bbolt.Tx) error {
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

// compact copies a file that is mostly free to a new one. The old one has its
// name until the new one is complete and flushed.
func (s *Store) compact() error {
	old := s.db
	var size int64
	if err := old.view(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return err
	}
	stats := old.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(old.Info().PageSize)
	if size < compactFrom || free <= size/2 {
		return nil
	}
	under := s.path(newName)
	fresh, err := copyTo(under, old)
	if err != nil {
		os.Remove(under)
		if isDamage(err) {
			old.damage = err
		}
		return err
	}
	db, err := publish(fresh, under, s.path(fileName))
	if db == nil {
		os.Remove(under)
		return errors.Join(err, fresh.Close())
	}
	s.mu.Lock() // waits for those who read the old one
	s.db = db
	s.mu.Unlock()
	return errors.Join(err, old.close())
}

// copyTo copies what a database holds to a new file, and flushes it.
func copyTo(path string, old *database) (*bbolt.DB, error) {
	o := options()
	// Nothing is flushed before the end, nor is the file made longer than it
	// need be.
	o.NoSync, o.NoGrowSync = true, true
	fresh, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return nil, err
	}
	ended := false
	err = guard(func() error {
		err := bbolt.Compact(fresh, old.DB, compactStep)
		ended = true
		return err
	})
	if err == nil {
		err = fresh.Sync()
	}
	if err == nil {
		fresh.NoSync, fresh.NoGrowSync, fresh.AllocSize = false, false, growth
		return fresh, nil
	}
	if ended {
		fresh.Close()
	} // else it may be stuck, and is let go
	return nil, err
}
