package bolt

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/towline/towline/puller"
)

// maxSpare is how many bytes of memory are kept for the next Save.
const maxSpare = 4 << 20

// Save implements puller.Store. The error's kind is ErrNoSpace where the disk is
// full. Where the last flush of all fails, it is not known whether the records
// are kept; saving them once more settles it.
func (s *Store) Save(seq uint64, records []puller.Record) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	const op = "save jobs"
	if s.closed {
		return s.fault(op, errClosed)
	}
	if len(records) == 0 {
		if err := s.room(); err != nil {
			return s.fault(op, err)
		}
	}
	values, err := s.encode(records)
	if err != nil {
		return s.fault(op, err)
	}
	switch {
	case s.blank:
		if err := s.begin(s.failure); err != nil {
			return s.fault(op, err)
		}
	case s.db == nil:
		s.reopen()
	}
	if s.db == nil {
		return s.fault(op, s.failure)
	}
	unended := s.unended
	err = s.db.update(func(tx *bbolt.Tx) error {
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
	switch {
	case err == nil:
		s.unended = unended
		s.floor.Store(0)
		return nil
	case errors.Is(err, bolterrors.ErrInvalidMapping):
		s.reopen() // there was no memory to map it; there may be some by now
	}
	return s.fault(op, err)
}

// room returns an error where the disk has no space for jobs to come. The file
// itself can't tell: it has pages to spare, which do for a few.
func (s *Store) room() error {
	f, err := os.Create(s.path(roomName))
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
		s.db.close()
	}
	s.db, s.failure = openDatabase(s.path(fileName))
}

// encode returns the records as they are kept, in memory that is good until
// the next call.
func (s *Store) encode(records []puller.Record) ([][]byte, error) {
	if s.values.Cap() > maxSpare {
		s.values = bytes.Buffer{}
	}
	s.values.Reset()
	encoder := json.NewEncoder(&s.values)
	encoder.SetEscapeHTML(false)
	ends := make([]int, len(records))
	for i := range records {
		if kind := records[i].Job.Kind; number(kinds, kind) == 0 {
			return nil, puller.Errorf(puller.ErrInternal, "job %s: the kind %q is not known here", records[i].Job.ID, kind)
		}
		if err := encode(&s.values, encoder, &records[i]); err != nil {
			return nil, err
		}
		ends[i] = s.values.Len()
	}
	values := make([][]byte, len(records))
	start := 0
	for i, end := range ends {
		values[i] = s.values.Bytes()[start:end:end]
		seal(values[i])
		start = end
	}
	return values, nil
}

// save puts a record in the place of the one with its ID. It returns by how
// many the records that have not ended have become more.
func (b *buckets) save(r *puller.Record, value []byte) (change int, err error) {
	id := []byte(r.Job.ID)
	ended := r.Job.State.Ended()
	oldKey, known := "", false
	if old := b.unended.Get(id); old != nil {
		if oldKey, err = keyOf(old); err != nil {
			return 0, err
		}
		known = true
		if ended {
			change--
			if err := b.unended.Delete(id); err != nil {
				return 0, err
			}
		}
	} else {
		if !ended {
			change++
		}
		// Only a record that was not among the others can be here.
		if old := b.ended.Get(id); old != nil {
			was, err := decode(id, old)
			if err != nil {
				return 0, err
			}
			if err := b.drop(entryOf(&was)); err != nil {
				return 0, err
			}
		}
	}
	if !known || oldKey != r.Key {
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
		return change, b.unended.Put(id, value)
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
