package bolt

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// Instance implements puller.Store.
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
