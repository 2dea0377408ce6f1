package pullertest

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
)

// Store is a puller.Store in memory.
type Store struct {
	mu      sync.Mutex
	seq     uint64
	records map[string]puller.Record
	fail    error
	lose    bool
	frozen  bool
	onSave  func([]puller.Record)
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{records: map[string]puller.Record{}} }

// Fail makes Save fail with err, until it is called with nil.
func (s *Store) Fail(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.fail = err }

// Freeze makes Save keep nothing more, though it says that it does, until thaw
// is called: as if the power were gone.
func (s *Store) Freeze() (thaw func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
	return func() { s.mu.Lock(); defer s.mu.Unlock(); s.frozen = false }
}

// Lose makes the next Save lose everything.
func (s *Store) Lose() { s.mu.Lock(); defer s.mu.Unlock(); s.lose = true }

// OnSave says what happens before a Save; it may block.
func (s *Store) OnSave(hook func([]puller.Record)) { s.mu.Lock(); defer s.mu.Unlock(); s.onSave = hook }

// copied returns a record as it comes back from a disk.
func copied(r puller.Record) (c puller.Record) {
	data, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		panic("pullertest: a record that has no JSON: " + err.Error())
	}
	return c
}

func (s *Store) Load() (uint64, []puller.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var live []puller.Record
	for _, r := range s.records {
		if !r.Job.State.Ended() {
			live = append(live, r)
		}
	}
	slices.SortFunc(live, func(a, b puller.Record) int { return strings.Compare(a.Job.ID, b.Job.ID) })
	return s.seq, live, nil
}

func (s *Store) Save(seq uint64, records []puller.Record) error {
	s.mu.Lock()
	hook := s.onSave
	s.mu.Unlock()
	if hook != nil {
		hook(records)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		return nil
	}
	if s.fail != nil {
		return s.fail
	}
	if s.lose {
		s.lose = false
		s.records = map[string]puller.Record{}
		return puller.ErrStoreLost
	}
	s.seq = seq
	for _, r := range records {
		s.records[r.Job.ID] = copied(r)
	}
	return nil
}

func (s *Store) Record(id string) (puller.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.records[id]; ok {
		return r, nil
	}
	return puller.Record{}, puller.Errorf(puller.NotFound, "none")
}

func (s *Store) Keyed(key string) (puller.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.Key == key {
			return r, nil
		}
	}
	return puller.Record{}, puller.Errorf(puller.NotFound, "none")
}

func (s *Store) Ended(f puller.Filter) ([]puller.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var jobs []puller.Job
	for _, r := range s.records {
		v := r.Job
		if v.State.Ended() && (f.State == "" || f.State == v.State) && (f.Kind == "" || f.Kind == v.Kind) && (f.Image == "" || f.Image == v.Image) && (f.Cursor == "" || v.ID < f.Cursor) {
			jobs = append(jobs, v)
		}
	}
	slices.SortFunc(jobs, func(a, b puller.Job) int { return strings.Compare(b.ID, a.ID) })
	return jobs[:min(len(jobs), f.Limit)], nil
}

func (s *Store) Prune(before time.Time, keep int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, r := range s.records {
		if r.Job.State.Ended() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	n := 0
	for i, id := range ids {
		if len(ids)-i > keep || s.records[id].Job.FinishedAt.Before(before) {
			delete(s.records, id)
			n++
		}
	}
	return n, nil
}

func (s *Store) Close() error { return nil }
