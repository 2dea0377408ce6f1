package known

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/rollout"
	"github.com/towline/towline/puller/keep/schedule"
)

// Record is a set as it is kept.
type Record struct {
	Format     int              `json:"format"`
	Generation uint64           `json:"generation"`
	Request    fleet.SetRequest `json:"request"`
	Skipped    []puller.Skipped `json:"skipped,omitempty"`
	Caller     string           `json:"caller,omitempty"`
	Changed    time.Time        `json:"changed"`
	Resolved   time.Time        `json:"resolved"`
	Controller string           `json:"controller"`
	Images     []fleet.Image    `json:"images"`
	Key        []byte           `json:"key"` // that the hosts of the generation share
	Rollout    rollout.Record   `json:"rollout"`
	// Previous is the last generation that every member might have: hosts that come during
	// a rollout get it.
	Previous *Pinned `json:"previous,omitempty"`
}

// Pinned is an older generation.
type Pinned struct {
	Generation uint64        `json:"generation"`
	Images     []fleet.Image `json:"images"`
}

// Set is a set as the controller knows it. Record does not change.
type Set struct {
	*Record
	Revision uint64
	Sum      string
	Pace     rollout.Pace
	When     schedule.Schedule

	Fault   string    // why its tags could not be resolved again
	RetryAt time.Time // when they are tried again after that
	Busy    bool      // they are being resolved
	Pausing time.Time // since when its rollout is pausing here
	group   answer
	// Releasing are the members that the last step of this controller has released.
	Releasing map[string]bool
	Touched   uint64 // the number of its last change
}

// ReadSet reads a set of a fleet as it is kept.
func ReadSet(fleetName, name string, value []byte) (*Set, error) {
	if err := fleet.CheckSetName(name); err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	if r.Format > fleet.Format {
		return nil, fleet.ErrFormat{Format: r.Format}
	}
	if r.Generation == 0 || len(r.Images) == 0 {
		return nil, fmt.Errorf("it has no generation, or no images")
	}
	return NewSet(fleetName, name, &r)
}

// NewSet returns a set of a fleet that is not known yet.
func NewSet(fleetName, name string, r *Record) (*Set, error) {
	pace, err := rollout.ParsePace(r.Request.Rollout)
	if err != nil {
		return nil, err
	}
	when, err := schedule.New(scheduleOf(r.Request))
	if err != nil {
		return nil, err
	}
	return &Set{Record: r, Sum: fleet.SumOf(r.Images), Pace: pace, When: when.WithHost(fleetName, name)}, nil
}

func scheduleOf(r fleet.SetRequest) schedule.Request {
	// The window is the hosts' own.
	return schedule.Request{Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter}
}

// Next returns when the tags of a set are resolved again by themselves, zero for never.
func (s *Set) Next(now time.Time) time.Time {
	if !s.RetryAt.IsZero() {
		return s.RetryAt
	}
	last := s.Resolved
	if last.After(now) {
		last = now // by the clock of another controller, or this one was set back
	}
	return s.When.Next(last)
}

// Gives reports whether a member is to have the present generation, of which it has an entry
// or none. While a wave is written, all of the wave count: hosts that know different members
// of it would each ask the registry.
func (s *Set) Gives(id string, e *fleet.DesiredSet) bool {
	return s.Rollout.State == fleet.RolloutDone || e != nil && e.Generation == s.Generation || s.Releasing[id]
}

// PutSet makes a set known, nil if it is deleted.
func (m *Model) PutSet(name string, s *Set, revision uint64) {
	delete(m.Unread, name)
	old := m.Sets[name]
	if old != nil && old.Revision >= revision || m.Markers[name] >= revision {
		return // it is known
	}
	if s == nil {
		m.Markers[name] = revision
		if old != nil {
			delete(m.Sets, name)
			for id, h := range m.Hosts {
				if h.Reports[name] != nil {
					delete(h.Reports, name)
					m.Strayed(fleet.ReportKey(id, name))
				}
			}
			m.Remove(name, "")
		}
		return
	}
	delete(m.Markers, name)
	if old != nil && old.Generation == s.Generation {
		s.Fault, s.RetryAt, s.Busy, s.Pausing, s.Releasing = old.Fault, old.RetryAt, old.Busy, old.Pausing, old.Releasing
	}
	switch {
	case s.Rollout.State != fleet.RolloutPausing:
		s.Pausing = time.Time{}
	case s.Pausing.IsZero():
		s.Pausing = time.Now() // another controller's clock is not known
	}
	m.Sets[name] = s
	s.Touched = m.Touch()
}
