package known

import (
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/rollout"
)

// State returns how a set stands on a host.
func (h *Host) State(name string, s *Set) fleet.MemberState {
	v := fleet.MemberState{State: fleet.StateWaiting}
	e := h.Entry(name)
	v.Released = e != nil && e.Generation == s.Generation
	if r := h.Reports[name]; r != nil {
		v.Generation, v.At = r.Generation, r.At
		if r.Generation == s.Generation && v.Released {
			v.State, v.Error, v.Kind, v.Digest, v.Images = r.State, r.Error, r.Kind, r.Digest, r.Images
			switch {
			case r.State != fleet.StateProven:
			case r.Sum == "":
				v.State, v.Kind, v.Error = fleet.StateFailed, puller.ErrInternal, "the host says that it has proven the set, but not which digests; "+h.olderOrNewer()
			case r.Sum != s.Sum || r.Digest != "" && r.Digest != s.Images[0].Digest:
				v.State, v.Error = fleet.StateFailed, "the host says that it has proven the set, but names other digests than those of this generation"
			}
		}
	}
	if v.State != fleet.StateProven {
		v.Digest = ""
	}
	if !h.Live {
		v.State, v.Last = fleet.StateAway, v.State
		if v.Last == fleet.StateWaiting {
			v.Last = ""
		}
	}
	return v
}

// View returns a set in the form of the API.
func (m *Model) View(name string, s *Set, members bool) fleet.Set {
	r := s.Request
	v := fleet.Set{
		Name: name, Generation: s.Generation,
		Schedule: r.Schedule, Timezone: r.Timezone, JitterSeconds: s.When.Jitter().Seconds(), Window: r.Window,
		Policy: r.Policy, Protect: *r.Protect, Priority: r.Priority, Hosts: r.Hosts,
		ChangedAt: s.Changed, ResolvedAt: s.Resolved, NextRun: utc(s.Next(Now())), Caller: s.Caller, Controller: s.Record.Controller, Error: s.Fault,
		Images: s.Images, Skipped: s.Skipped, Counts: make(map[fleet.State]int),
		Rollout: fleet.Rollout{State: s.Rollout.State, Reason: s.Rollout.Reason, Wave: s.Rollout.Wave, RolloutRequest: r.Rollout},
	}
	if s.Rollout.State == fleet.RolloutPausing && !s.Pausing.IsZero() {
		v.Rollout.NextWave = s.Pausing.Round(0).UTC().Add(s.Pace.Pause())
	}
	for _, id := range m.Members(name, s) {
		m := m.Hosts[id].State(name, s)
		m.Host = id
		v.Counts[m.State]++
		v.Rollout.Members++
		if m.Released {
			v.Rollout.Released++
			if state := Said(m); state == fleet.StateFailed || state == fleet.StateRefused {
				v.Rollout.Failures++
			}
		}
		if members {
			v.Members = append(v.Members, m)
		}
	}
	return v
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// ViewHost returns a host in the form of the API.
func (m *Model) ViewHost(id string, h *Host) fleet.Host {
	v := fleet.Host{ID: id, Labels: h.Labels(id), Zone: h.Zone(), Invited: h.Invited != nil, Live: h.Live, Error: h.Fault, Counts: make(map[fleet.State]int)}
	if i := h.Identity; i != nil {
		v.Name, v.Version, v.Platform, v.Address = i.Name, i.Version, i.Platform, i.Address
		if v.Error == "" {
			v.Error = i.Fault
		}
	}
	if h.Identity != nil && !h.Heard.IsZero() {
		v.Heard = h.Heard.Round(0).UTC()
	}
	if h.Clone != "" {
		v.Error = "another daemon, on " + h.Clone + ", has its ID, and is refused; give it credentials or a state_dir of its own"
	}
	for name, s := range m.Sets {
		if h.Matches(id, name, s) {
			v.Counts[h.State(name, s).State]++
		}
	}
	return v
}

// Progress returns what a rollout sees of the members of a set.
func (m *Model) Progress(name string, s *Set) []rollout.Member {
	ids := m.Members(name, s)
	all := make([]rollout.Member, 0, len(ids))
	for _, id := range ids {
		h := m.Hosts[id]
		v := h.State(name, s)
		all = append(all, rollout.Member{Host: id, Live: h.Live, Released: v.Released, State: Said(v)})
	}
	return all
}

// Said returns the state that a member was at last, be it away now or not.
func Said(v fleet.MemberState) fleet.State {
	if v.State == fleet.StateAway {
		return v.Last
	}
	return v.State
}
