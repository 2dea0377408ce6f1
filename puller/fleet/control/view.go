package control

import (
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/fleet"
)

// state returns how a set stands on a host.
func (h *hostState) state(name string, s *setState) fleet.MemberState {
	v := fleet.MemberState{State: fleet.StateWaiting}
	e := h.entry(name)
	v.Released = e != nil && e.Generation == s.Generation
	if r := h.reports[name]; r != nil {
		v.Generation, v.At = r.Generation, r.at
		if r.Generation == s.Generation && v.Released {
			v.State, v.Error, v.Kind, v.Digest, v.Images = r.State, r.Error, r.Kind, r.Digest, r.Images
			if r.State == fleet.StateProven && r.Sum != s.sum {
				v.State, v.Error = fleet.StateFailed, "the host says that it has proven the set, but names other digests than those of this generation"
			}
		}
	}
	if v.State != fleet.StateProven {
		v.Digest = ""
	}
	if !h.live {
		v.State, v.Last = fleet.StateAway, v.State
		if v.Last == fleet.StateWaiting {
			v.Last = ""
		}
	}
	return v
}

// view returns a set in the form of the API. mu is held.
func (c *Controller) view(name string, s *setState, members bool) fleet.Set {
	r := s.Request
	v := fleet.Set{
		Name: name, Generation: s.Generation,
		Schedule: r.Schedule, Timezone: r.Timezone, JitterSeconds: s.when.Jitter().Seconds(), Window: r.Window,
		Policy: r.Policy, Protect: *r.Protect, Priority: r.Priority, Hosts: r.Hosts,
		ChangedAt: s.Changed, ResolvedAt: s.Resolved, NextRun: utc(s.next(now())), Caller: s.Caller, Controller: s.record.Controller, Error: s.fault,
		Images: s.Images, Skipped: s.Skipped, Counts: make(map[fleet.State]int),
		Rollout: fleet.Rollout{State: s.Rollout.State, Reason: s.Rollout.Reason, Wave: s.Rollout.Wave, RolloutRequest: r.Rollout},
	}
	if s.Rollout.State == fleet.RolloutPausing && !s.pausing.IsZero() {
		v.Rollout.NextWave = s.pausing.Round(0).UTC().Add(s.pace.Pause())
	}
	for _, id := range c.members(name, s) {
		m := c.hosts[id].state(name, s)
		m.Host = id
		v.Counts[m.State]++
		v.Rollout.Members++
		if m.Released {
			v.Rollout.Released++
			if state := said(m); state == fleet.StateFailed || state == fleet.StateRefused {
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

// Sets implements fleet.Service.
func (c *Controller) Sets() ([]fleet.Set, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []fleet.Set{}
	for _, name := range slices.Sorted(maps.Keys(c.sets)) {
		all = append(all, c.view(name, c.sets[name], false))
	}
	return all, nil
}

// Set implements fleet.Service.
func (c *Controller) Set(name string) (fleet.Set, error) {
	if err := c.mayAct(); err != nil {
		return fleet.Set{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sets[name]
	if s == nil {
		return fleet.Set{}, errNoSet(name)
	}
	return c.view(name, s, true), nil
}

// viewHost returns a host in the form of the API. mu is held.
func (c *Controller) viewHost(id string, h *hostState) fleet.Host {
	v := fleet.Host{ID: id, Labels: h.labels(id), Zone: h.zone(), Invited: h.invited != nil, Live: h.live, Error: h.fault, Counts: make(map[fleet.State]int)}
	if i := h.identity; i != nil {
		v.Name, v.Version, v.Platform, v.Address = i.Name, i.Version, i.Platform, i.Address
		if v.Error == "" {
			v.Error = i.Fault
		}
	}
	if h.identity != nil && !h.heard.IsZero() {
		v.Heard = h.heard.Round(0).UTC()
	}
	if h.clone != "" {
		v.Error = "another daemon, on " + h.clone + ", has its ID, and is refused; give it credentials or a state_dir of its own"
	}
	for name, s := range c.sets {
		if h.matches(id, name, s) {
			v.Counts[h.state(name, s).State]++
		}
	}
	return v
}

// Hosts implements fleet.Service.
func (c *Controller) Hosts() ([]fleet.Host, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []fleet.Host{}
	for _, id := range slices.Sorted(maps.Keys(c.hosts)) {
		all = append(all, c.viewHost(id, c.hosts[id]))
	}
	return all, nil
}
