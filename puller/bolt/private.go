package bolt

import (
	"errors"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller/bolt/database"
	"github.com/towline/towline/puller/store"
)

// privateName is a bucket of the IDs of images that came with credentials. Files of
// older versions do not have it. Its sequence is the number of IDs. A number above
// store.MaxPrivate says that some IDs are missing.
var privateName = []byte("private")

// Private implements store.Store.
func (s *Store) Private() (images []string, whole bool, err error) {
	err = s.view("read the images that came with credentials", func(tx *bbolt.Tx) error {
		b := tx.Bucket(privateName)
		if whole = b == nil || b.Sequence() <= store.MaxPrivate; b == nil {
			return nil
		}
		return b.ForEach(func(id, _ []byte) error {
			images = append(images, string(id))
			return nil
		})
	})
	if err != nil && unlessBlank(err) == nil {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return nil, !database.IsDamage(s.failure), nil
	}
	return images, whole, err
}

// KeepPrivate implements store.Store.
func (s *Store) KeepPrivate(image string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	const op = "keep an image that came with credentials"
	switch {
	case s.closed:
		return s.fault(op, errClosed)
	case s.db == nil:
		return s.fault(op, errors.Join(s.failure, errors.New("there is no file at present")))
	}
	return s.fault(op, s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(privateName)
		if err != nil {
			return err
		}
		if b.Get([]byte(image)) != nil {
			return nil
		}
		n, err := b.NextSequence()
		if err != nil || n > store.MaxPrivate {
			return err
		}
		return b.Put([]byte(image), []byte{version})
	}))
}

// forgot marks a file that was begun after damage: it does not have all images.
func forgot(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists(privateName)
	if err != nil {
		return err
	}
	return b.SetSequence(store.MaxPrivate + 1)
}
