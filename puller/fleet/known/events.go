package known

import (
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/stream"
)

// Now returns what the system's clock says.
func Now() time.Time { return time.Now().Round(0).UTC() }

// Since returns the present state of what has changed after a change; for 0 all sets, or one
// set and its members.
func (m *Model) Since(name string, at uint64) (frames []stream.Frame) {
	stamp := Now()
	add := func(e fleet.Event) {
		e.Time = stamp
		frames = append(frames, e.Frame())
	}
	if at > 0 {
		for _, r := range m.removed {
			switch {
			case r.changed <= at:
			case r.set != "" && (name == "" || name == r.set) && m.Sets[r.set] == nil:
				add(fleet.Event{Type: fleet.EventRemoved, Name: r.set})
			case r.host != "" && name == "" && m.Hosts[r.host] == nil:
				add(fleet.Event{Type: fleet.EventRemoved, Host: &fleet.Host{ID: r.host, Labels: map[string]string{}}})
			}
		}
	}
	for _, set := range slices.Sorted(maps.Keys(m.Sets)) {
		if name != "" && set != name {
			continue
		}
		s := m.Sets[set]
		changed := at == 0 || s.Touched > at
		var members []fleet.Event
		for _, id := range m.Members(set, s) {
			h := m.Hosts[id]
			r := h.Reports[set]
			if at > 0 && h.Touched <= at && s.Touched <= at && (r == nil || r.Touched <= at) {
				continue
			}
			changed = true
			if name != "" {
				m := h.State(set, s)
				m.Host = id
				members = append(members, fleet.Event{Type: fleet.EventMember, Name: set, Generation: s.Generation, Member: &m})
			}
		}
		if changed {
			v := m.View(set, s, false)
			add(fleet.Event{Type: fleet.EventSet, Set: &v})
		}
		for _, m := range members {
			add(m)
		}
	}
	if name != "" || at == 0 {
		return frames
	}
	for _, id := range slices.Sorted(maps.Keys(m.Hosts)) {
		if h := m.Hosts[id]; h.Touched > at {
			v := m.ViewHost(id, h)
			add(fleet.Event{Type: fleet.EventHost, Host: &v})
		}
	}
	return frames
}
