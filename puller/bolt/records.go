package bolt

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// recordsName is a bucket of records of other rooms. Its keys are the kind, a zero byte
// and the key. Files of older versions do not have it.
var recordsName = []byte("records")

// Records is a store.Records in the file of a Store.
type Records struct{ store *Store }

var _ store.Records = (*Records)(nil)

// Records returns the records of other rooms in the store's file. They can be used until
// the store is closed. They are lost with a file that is set aside after damage.
func (s *Store) Records() *Records { return &Records{s} }

func recordKey(kind, key string) []byte { return []byte(kind + "\x00" + key) }

// Load implements store.Records.
func (r *Records) Load(kind string) (map[string][]byte, error) {
	if err := store.CheckRecords(kind, nil); err != nil {
		return nil, err
	}
	values := make(map[string][]byte)
	err := r.store.view("load records", func(tx *bbolt.Tx) error {
		return eachRecord(tx, kind, func(key, value []byte) error {
			payload, err := unseal(value)
			if err != nil {
				return fmt.Errorf("%s %s: %w", kind, key, err)
			}
			values[string(key)] = bytes.Clone(payload)
			return nil
		})
	})
	if err := unlessBlank(err); err != nil {
		return nil, err
	}
	return values, nil
}

// examineRecords returns damage in any record.
func examineRecords(tx *bbolt.Tx) error {
	b := tx.Bucket(recordsName)
	if b == nil {
		return nil
	}
	return b.ForEach(func(key, value []byte) error {
		if _, err := unseal(value); err != nil {
			return fmt.Errorf("record %q: %w", key, err)
		}
		return nil
	})
}

// eachRecord calls each for the records of a kind, with their values as they are kept.
func eachRecord(tx *bbolt.Tx, kind string, each func(key, value []byte) error) error {
	b := tx.Bucket(recordsName)
	if b == nil {
		return nil
	}
	prefix := recordKey(kind, "")
	c := b.Cursor()
	for k, value := c.Seek(prefix); k != nil; k, value = c.Next() {
		key, ok := bytes.CutPrefix(k, prefix)
		if !ok {
			break
		}
		if err := each(key, value); err != nil {
			return err
		}
	}
	return nil
}

// recordsSize is how much there is of a kind of records.
type recordsSize struct {
	known    bool
	n, bytes int
}

// Save implements store.Records.
func (r *Records) Save(kind string, values map[string][]byte) error {
	if err := store.CheckRecords(kind, values); err != nil || len(values) == 0 {
		return err
	}
	return r.change("save records", kind, func(b *bbolt.Bucket, size *recordsSize) error {
		for key, payload := range values {
			name := recordKey(kind, key)
			if old := b.Get(name); old != nil {
				size.drop(old)
			}
			value := append(make([]byte, sealSize, sealSize+len(payload)), payload...)
			seal(value)
			if err := b.Put(name, value); err != nil {
				return err
			}
			size.n++
			size.bytes += len(payload)
		}
		if size.n > store.MaxRecords || size.bytes > store.MaxRecordsBytes {
			return puller.Errorf(puller.ErrOverloaded, "%s: %d records with %d bytes; at most %d with %d bytes are kept", kind, size.n, size.bytes, store.MaxRecords, store.MaxRecordsBytes)
		}
		return nil
	})
}

// Delete implements store.Records.
func (r *Records) Delete(kind string, keys []string) error {
	if err := store.CheckRecords(kind, nil); err != nil || len(keys) == 0 {
		return err
	}
	return r.change("delete records", kind, func(b *bbolt.Bucket, size *recordsSize) error {
		for _, key := range keys {
			name := recordKey(kind, key)
			old := b.Get(name)
			if old == nil {
				continue
			}
			size.drop(old)
			if err := b.Delete(name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (z *recordsSize) drop(value []byte) {
	z.n--
	z.bytes -= max(0, len(value)-sealSize)
}

// notSaved gives a full disk of the daemon another kind than a full disk of the engine.
func notSaved(err error) error {
	var known *puller.Error
	if errors.As(err, &known) && known.Kind == puller.ErrNoSpace {
		return &puller.Error{Op: known.Op, Kind: puller.ErrOverloaded, Err: known.Err}
	}
	return err
}

// change changes the records of a kind in one transaction.
func (r *Records) change(op, kind string, change func(*bbolt.Bucket, *recordsSize) error) error {
	s := r.store
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.writable(); err != nil {
		return notSaved(s.fault(op, err))
	}
	size := s.records[kind]
	err := s.update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(recordsName)
		if err != nil {
			return err
		}
		if !size.known {
			size.known = true
			if err := eachRecord(tx, kind, func(_, value []byte) error {
				size.n++
				size.bytes += max(0, len(value)-sealSize)
				return nil
			}); err != nil {
				return err
			}
		}
		return change(b, &size)
	})
	if err != nil {
		delete(s.records, kind) // it may have been kept all the same
		return notSaved(s.fault(op, err))
	}
	if s.records == nil {
		s.records = make(map[string]recordsSize)
	}
	s.records[kind] = size
	return nil
}
