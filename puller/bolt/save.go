package bolt

import (
	"errors"
	"os"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/towline/towline/puller/bolt/database"
	"github.com/towline/towline/puller/store"
)

// Save implements store.Store. The error's kind is ErrNoSpace where the disk is
// full. After an error of the last flush it is not known whether the records are
// kept. The caller saves them once more.
func (s *Store) Save(seq uint64, records []store.Record) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	const op = "save jobs"
	if s.closed {
		return s.fault(op, errClosed)
	}
	if len(records) == 0 {
		if err := room(s.path(roomName)); err != nil {
			return s.fault(op, err)
		}
	}
	values := make([][]byte, len(records))
	for i := range records {
		var err error
		if values[i], err = encode(&records[i]); err != nil {
			return s.fault(op, err)
		}
	}
	if err := s.writable(); err != nil {
		return s.fault(op, err)
	}
	unended := s.unended
	err := s.update(func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		if err := b.keepInstance(s.id); err != nil {
			return err
		}
		for i := range records {
			change, err := b.save(&records[i], values[i])
			if err != nil {
				return err
			}
			unended += change
		}
		return b.setHead(head{seq, uint64(unended)})
	})
	if err != nil {
		return s.fault(op, err)
	}
	s.unended = unended
	s.floor.Store(0)
	return nil
}

// writable has a file to change, or returns why there is none. writing is held.
func (s *Store) writable() error {
	switch {
	case s.closed:
		return errClosed
	case s.blank:
		return s.begin(s.failure)
	case s.db == nil:
		s.reopen()
	}
	if s.db == nil {
		return s.failure
	}
	return nil
}

// update changes the file. writing is held.
func (s *Store) update(change func(*bbolt.Tx) error) error {
	err := s.db.Update(change)
	if errors.Is(err, bolterrors.ErrInvalidMapping) {
		s.reopen() // there was no memory to map it; there may be some by now
	}
	return err
}

// room returns an error where the disk has no space for jobs to come. The file
// has free pages, which are enough for some jobs, so it can't tell.
func room(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// reopen opens the file again.
func (s *Store) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil {
		s.db.Close()
	}
	s.db, s.failure = database.Open(s.path(fileName))
}

// save puts a record in the place of the one with its ID. It returns how many
// more records there are that have not ended.
func (b *buckets) save(r *store.Record, value []byte) (change int, err error) {
	id := []byte(r.Job.ID)
	ended := r.Job.State.Ended()
	oldKey := ""
	if old := b.unended.Get(id); old != nil {
		change--
		oldKey, err = keyOf(old)
		if err == nil && ended {
			err = b.unended.Delete(id)
		}
	} else if old := b.ended.Get(id); old != nil {
		var was store.Record
		if was, err = decode(id, old); err == nil {
			err = b.drop(entryOf(&was))
		}
	}
	if err != nil {
		return 0, err
	}
	if oldKey != r.Key {
		if err := b.freeKey(oldKey, id); err != nil {
			return 0, err
		}
		if r.Key != "" {
			if err := b.keys.Put([]byte(r.Key), id); err != nil {
				return 0, err
			}
		}
	}
	if !ended {
		return change + 1, b.unended.Put(id, value)
	}
	if err := b.index(entryOf(r)); err != nil {
		return 0, err
	}
	return change, b.ended.Put(id, value)
}

// freeKey takes a key from a job, if it holds it.
func (b *buckets) freeKey(key string, id []byte) error {
	if key == "" || string(b.keys.Get([]byte(key))) != string(id) {
		return nil
	}
	return b.keys.Delete([]byte(key))
}
