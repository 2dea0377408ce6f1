package storetest

import (
	"maps"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// Records is a store.Records in memory, a part of a Store. What makes the Store fail makes
// it fail too.
type Records struct{ store *Store }

var _ store.Records = (*Records)(nil)

// Records returns the records of other rooms.
func (s *Store) Records() *Records { return &Records{s} }

func cloneOthers(others map[string]map[string]string) map[string]map[string]string {
	cloned := make(map[string]map[string]string, len(others))
	for kind, values := range others {
		cloned[kind] = maps.Clone(values)
	}
	return cloned
}

// Load implements store.Records.
func (r *Records) Load(kind string) (map[string][]byte, error) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if r.store.closed {
		return nil, errClosed
	}
	values := make(map[string][]byte)
	for key, value := range r.store.others[kind] {
		values[key] = []byte(value)
	}
	return values, store.CheckRecords(kind, nil)
}

// Save implements store.Records.
func (r *Records) Save(kind string, values map[string][]byte) error {
	if err := store.CheckRecords(kind, values); err != nil {
		return err
	}
	return r.change(kind, func(all map[string]string) error {
		for key, value := range values {
			all[key] = string(value)
		}
		size := 0
		for _, value := range all {
			size += len(value)
		}
		if len(all) > store.MaxRecords || size > store.MaxRecordsBytes {
			return puller.Errorf(puller.ErrOverloaded, "%s: %d records with %d bytes", kind, len(all), size)
		}
		return nil
	})
}

// Delete implements store.Records.
func (r *Records) Delete(kind string, keys []string) error {
	if err := store.CheckRecords(kind, nil); err != nil {
		return err
	}
	return r.change(kind, func(all map[string]string) error {
		for _, key := range keys {
			delete(all, key)
		}
		return nil
	})
}

func (r *Records) change(kind string, change func(all map[string]string) error) error {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.err != nil:
		return s.err
	case s.damage:
		return errDamaged
	}
	all := maps.Clone(s.others[kind])
	if all == nil {
		all = make(map[string]string)
	}
	if err := change(all); err != nil {
		return err
	}
	s.others[kind] = all
	return nil
}
