package storetest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/store"
)

// Store is a store.Store in memory, which a test can make fail. It starts no
// goroutines and waits for nothing, so that it can be used under
// testing/synctest. Its methods may be called from anywhere.
type Store struct {
	mu      sync.Mutex
	closed  bool
	seq     uint64
	records map[string]kept   // by ID
	keys    map[string]string // the ID by idempotency key

	saves  int
	err    error
	damage bool
	full   bool
	onSave func([]store.Record)

	instance string
	private  map[string]bool
	partial  bool
	others   map[string]map[string]string // of Records, by kind and key
}

// kept is a record in the form in which a disk would have it: it shares no
// memory with anyone, and what JSON does not carry is not there.
type kept struct {
	body  []byte
	key   string
	state puller.State
	kind  puller.JobKind
	image string
	end   time.Time
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{records: make(map[string]kept), keys: make(map[string]string), instance: rand.Text(), private: make(map[string]bool), others: make(map[string]map[string]string)}
}

// Reopen returns a store with what this one has kept until now, as the next
// start finds it: after Damage a new one. Neither changes the other.
func (s *Store) Reopen() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damage {
		anew := New()
		anew.seq, anew.partial = uint64(time.Now().UnixMicro()), true
		return anew
	}
	return &Store{seq: s.seq, records: maps.Clone(s.records), keys: maps.Clone(s.keys), instance: s.instance, private: maps.Clone(s.private), partial: s.partial, others: cloneOthers(s.others)}
}

// Instance implements store.Store.
func (s *Store) Instance() string { return s.instance }

// Private implements store.Store.
func (s *Store) Private() (images []string, whole bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, errClosed
	}
	return slices.Sorted(maps.Keys(s.private)), !s.partial, nil
}

// KeepPrivate implements store.Store.
func (s *Store) KeepPrivate(image string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.err != nil:
		return s.err
	case s.damage:
		return errDamaged
	case len(s.private) >= store.MaxPrivate && !s.private[image]:
		s.partial = true
	default:
		s.private[image] = true
	}
	return nil
}

// Fail makes every Save fail with an error, until it is called with nil.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Full makes every Save without records fail with ErrNoSpace, as where the disk is
// full and the file has some space to spare, until it is called with false.
func (s *Store) Full(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = is
}

// Damage makes every Save fail from now on, as that of a store that was damaged
// while it was in use.
func (s *Store) Damage() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage = true
}

// OnSave has a function called with the records of each Save, before anything
// comes of it. It may block. The records are the caller's.
func (s *Store) OnSave(do func([]store.Record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onSave = do
}

// Saves returns how often Save was called.
func (s *Store) Saves() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}

var (
	errClosed  = puller.Errorf(puller.ErrInternal, "the store is closed")
	errDamaged = puller.Errorf(puller.ErrInternal, "the store is damaged")
)

// Save implements store.Store.
func (s *Store) Save(seq uint64, records []store.Record) error {
	s.mu.Lock()
	s.saves++
	onSave := s.onSave
	s.mu.Unlock()
	if onSave != nil {
		onSave(records)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.err != nil:
		return s.err
	case s.full && len(records) == 0:
		return puller.Errorf(puller.ErrNoSpace, "no space left on device")
	case s.damage:
		return errDamaged
	}
	bodies := make([][]byte, len(records))
	for i, r := range records {
		r.Events = slices.Clone(r.Events)
		for j := range r.Events {
			r.Events[j].Result = nil
		}
		var err error
		if bodies[i], err = json.Marshal(r); err != nil {
			return err
		}
	}
	for i, r := range records {
		s.drop(r.Job.ID)
		s.records[r.Job.ID] = kept{bodies[i], r.Key, r.Job.State, r.Job.Kind, r.Job.Image, r.Job.FinishedAt}
		if r.Key != "" {
			s.keys[r.Key] = r.Job.ID
		}
	}
	s.seq = seq
	return nil
}

func (s *Store) drop(id string) {
	if key := s.records[id].key; s.keys[key] == id {
		delete(s.keys, key)
	}
	delete(s.records, id)
}

// ids returns the IDs of the records that have ended, or of those that have
// not, oldest first.
func (s *Store) ids(ended bool) []string {
	var ids []string
	for id, k := range s.records {
		if k.state.Ended() == ended {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *Store) read(id string) (store.Record, error) {
	k, ok := s.records[id]
	switch {
	case s.closed:
		return store.Record{}, errClosed
	case !ok:
		return store.Record{}, puller.Errorf(puller.ErrNotFound, "the store has no such job")
	}
	var r store.Record
	err := json.Unmarshal(k.body, &r)
	r.Key = k.key
	return r, err
}

// Load implements store.Store.
func (s *Store) Load() (uint64, []store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, nil, errClosed
	}
	var unended []store.Record
	var errs []error
	for _, id := range s.ids(false) {
		r, err := s.read(id)
		unended, errs = append(unended, r), append(errs, err)
	}
	return s.seq, unended, errors.Join(errs...)
}

// Record implements store.Store.
func (s *Store) Record(id string) (store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(id)
}

// Keyed implements store.Store.
func (s *Store) Keyed(key string) (store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(s.keys[key])
}

// Ended implements store.Store. Its cost follows how many jobs there are.
func (s *Store) Ended(f puller.Filter) ([]puller.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if f.Limit == 0 {
		f.Limit = 100
	}
	jobs := []puller.Job{}
	for _, id := range slices.Backward(s.ids(true)) {
		if len(jobs) == f.Limit {
			break
		}
		k := s.records[id]
		if f.Cursor != "" && id >= f.Cursor || f.State != "" && k.state != f.State ||
			f.Kind != "" && k.kind != f.Kind || f.Image != "" && k.image != f.Image {
			continue
		}
		r, err := s.read(id)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, r.Job)
	}
	return jobs, nil
}

// byEnd returns the IDs of the records that have ended, in the order in which
// they did.
func (s *Store) byEnd() []string {
	ids := s.ids(true)
	slices.SortFunc(ids, func(a, b string) int {
		if order := s.records[a].end.Compare(s.records[b].end); order != 0 {
			return order
		}
		return strings.Compare(a, b)
	})
	return ids
}

// Last implements store.Store. Its cost follows how many jobs there are.
func (s *Store) Last(n int, size int64) ([]store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	ids := s.byEnd()
	first := len(ids)
	for first > 0 && len(ids)-first < n {
		if size -= int64(len(s.records[ids[first-1]].body)); size < 0 && first < len(ids) {
			break
		}
		first--
	}
	var ended []store.Record
	for _, id := range ids[first:] {
		r, err := s.read(id)
		if err != nil {
			return nil, err
		}
		ended = append(ended, r)
	}
	return ended, nil
}

// Prune implements store.Store.
func (s *Store) Prune(before time.Time, keep int, size int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errClosed
	}
	ids := s.byEnd()
	left := int64(0)
	for _, id := range ids {
		left += int64(len(s.records[id].body))
	}
	dropped := 0
	for _, id := range ids {
		if !s.records[id].end.Before(before) && len(ids)-dropped <= keep && left <= size {
			break
		}
		left -= int64(len(s.records[id].body))
		s.drop(id)
		dropped++
	}
	return dropped, nil
}

// Close implements store.Store. What is called after it fails.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
