package bolt

import (
	"fmt"
	"testing"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller/store"
)

func TestPrivateSaysWhenItIsNotWhole(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir(), Options{Log: logrus.New()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const room = 3
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(privateName)
		if err != nil {
			return err
		}
		return b.SetSequence(store.MaxPrivate - room)
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range room + 2 {
		if _, whole, err := s.Private(); err != nil || whole != (n <= room) {
			t.Errorf("with %d of %d it says that it knows all: %t, %v", n, room, whole, err)
		}
		for range 2 { // again is no more
			if err := s.KeepPrivate(fmt.Sprint("sha256:", min(n, room))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if images, _, err := s.Private(); err != nil || len(images) != room {
		t.Errorf("it has %q, %v", images, err)
	}
}
