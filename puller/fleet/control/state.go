package control

import (
	"encoding/json"
	"sync"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
)

// state is what this controller knows of its fleet. Its other parts share it, and it knows
// none of them.
type state struct {
	wake chan struct{} // has something in it after the leader may have more to do

	mu      sync.Mutex // guards what follows; no call is made while it is held
	known   known.Model
	leading bool
	closed  bool
}

// nudge has the leader look whether it has more to do.
func (s *state) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *state) isLeading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading
}

// setLeading reports whether this controller acted before.
func (s *state) setLeading(leading bool, leader string) (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.leading
	if s.leading, s.known.Leader = leading, leader; leading != before {
		s.known.Touch()
		s.nudge()
	}
	return before
}

// loaded says that all has been read, which is what was fresh.
func (s *state) loaded(fresh map[string]bool, names fleet.Subjects) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.DropOthers(fresh, names)
	s.known.Loaded = true
	s.known.Touch()
}

// away says that NATS is away: this controller does not act, and knows of none that does.
func (s *state) away() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leading, s.known.Leader = false, ""
	s.known.Touch()
}

// close says that the daemon ends.
func (s *state) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.known.Touch()
}

// platforms are those of the hosts that a set is for.
func (s *state) platforms(name string, r fleet.SetRequest) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.Platforms(name, r)
}

// group answers with the hosts that have, or are to have, what a host is to have of a set.
func (s *state) group(id string, question []byte) ([]byte, error) {
	var q fleet.Question
	if len(question) > fleet.MaxBeat || json.Unmarshal(question, &q) != nil {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "the question can't be read")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.Group(id, q.Set)
}
