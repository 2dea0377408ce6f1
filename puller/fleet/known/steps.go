package known

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/rollout"
)

// Step is what a rollout has come to.
type Step struct {
	Set     *Set
	Next    rollout.Record
	Changed bool

	released map[string]bool // hosts that get the generation now
}

// Steps steps all rollouts, by set.
func (m *Model) Steps() map[string]Step {
	steps := make(map[string]Step)
	for name, s := range m.Sets {
		paused := time.Duration(0)
		if !s.Pausing.IsZero() {
			paused = time.Since(s.Pausing)
		}
		next, released := s.Rollout.Step(name, s.Pace, m.Progress(name, s), paused)
		step := Step{Set: s, Next: next, Changed: next != s.Rollout, released: make(map[string]bool, len(released))}
		for _, id := range released {
			step.released[id] = true
		}
		steps[name] = step
	}
	return steps
}

// Write is a record of what a host is to have that must be written.
type Write struct {
	Desired  fleet.Desired
	Value    []byte
	Revision uint64 // of the record before it, 0 for none
	Fault    error  // why it can't be written: the host keeps what it has
}

// Writes returns what hosts are to have that is not what is kept, by host.
func (m *Model) Writes() map[string]Write {
	steps := m.Steps()
	for name, step := range steps {
		if step.Changed {
			clear(step.released) // it is to be kept first
		}
		m.Sets[name].Releasing = step.released
	}
	all := make(map[string]Write)
	names := slices.Sorted(maps.Keys(steps))
	for id, h := range m.Hosts {
		if h.Identity == nil && h.Invited == nil {
			continue // what it is to have stays until it comes: its labels are not known
		}
		if h.Desired != nil && h.Desired.Format > fleet.Format {
			continue
		}
		next := fleet.Desired{Format: fleet.Format, Sets: []fleet.DesiredSet{}}
		for _, name := range names {
			if e := wanted(id, h, name, steps[name]); e != nil {
				next.Sets = append(next.Sets, *e)
			}
		}
		if h.Desired != nil {
			for _, e := range h.Desired.Sets {
				if m.Unread[e.Set] {
					next.Sets = append(next.Sets, e)
				}
			}
		}
		if h.Desired == nil && len(next.Sets) == 0 || h.Desired != nil && equal(*h.Desired, next) {
			continue
		}
		next.Serial = h.Revision + 1
		w := Write{Desired: next, Value: fleet.Encode(next), Revision: h.Revision}
		if len(w.Value) > fleet.MaxDesired {
			w.Fault = fmt.Errorf("what a host is to have has %d bytes, and at most %d are written; it keeps what it has; make its sets smaller", len(w.Value), fleet.MaxDesired)
		}
		all[id] = w
	}
	return all
}

// wanted returns what a host is to have of a set, nil for nothing.
func wanted(id string, h *Host, name string, step Step) *fleet.DesiredSet {
	s := step.Set
	if !h.Matches(id, name, s) {
		return nil
	}
	now := h.Entry(name)
	e := fleet.DesiredSet{
		Set: name, Generation: s.Generation, Images: s.Images, Protect: *s.Request.Protect, Priority: s.Request.Priority, Window: s.Request.Window, Timezone: s.Request.Timezone,
	}
	switch {
	case step.released[id], now != nil && now.Generation == s.Generation:
	case now != nil:
		return now
	case s.Previous != nil && s.Rollout.State != fleet.RolloutDone:
		e.Generation, e.Images = s.Previous.Generation, s.Previous.Images
	default:
		return nil
	}
	return &e
}

func equal(a, b fleet.Desired) bool {
	return a.Format == b.Format && slices.EqualFunc(a.Sets, b.Sets, func(a, b fleet.DesiredSet) bool {
		return a.Set == b.Set && a.Generation == b.Generation && a.Protect == b.Protect && a.Priority == b.Priority && a.Window == b.Window && a.Timezone == b.Timezone
	})
}

// Due returns the sets whose tags are to be resolved again, and has them busy.
func (m *Model) Due(now time.Time) (names []string) {
	for name, s := range m.Sets {
		if at := s.Next(now); !s.Busy && !at.IsZero() && !at.After(now) {
			s.Busy = true
			names = append(names, name)
		}
	}
	return names
}
