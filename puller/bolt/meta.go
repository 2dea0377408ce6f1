package bolt

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller/bolt/database"
)

// head is what is kept beside the records.
type head struct{ seq, unended uint64 }

var headKey = []byte("head")

func (b *buckets) head() (head, error) {
	payload, err := unseal(b.meta.Get(headKey))
	switch {
	case err != nil:
		return head{}, fmt.Errorf("its head: %w", err)
	case len(payload) != 16:
		return head{}, database.Damagef("its head: %d bytes long", len(payload))
	}
	return head{binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])}, nil
}

func (b *buckets) setHead(h head) error {
	value := binary.BigEndian.AppendUint64(make([]byte, sealSize, sealSize+16), h.seq)
	value = binary.BigEndian.AppendUint64(value, h.unended)
	seal(value)
	return b.meta.Put(headKey, value)
}

// Instance implements store.Store.
func (s *Store) Instance() string { return s.id }

var instanceKey = []byte("instance")

// readInstance returns the store's ID, "" where it has none yet.
func readInstance(tx *bbolt.Tx) (string, error) {
	b, err := open(tx)
	if err != nil {
		return "", err
	}
	value := b.meta.Get(instanceKey)
	if value == nil {
		return "", nil
	}
	id, err := unseal(value)
	if err != nil {
		return "", fmt.Errorf("its ID: %w", err)
	}
	return string(id), nil
}

// keepInstance writes the store's ID if it is not there.
func (b *buckets) keepInstance(id string) error {
	if b.meta.Get(instanceKey) != nil {
		return nil
	}
	value := append(make([]byte, sealSize), id...)
	seal(value)
	return b.meta.Put(instanceKey, value)
}
