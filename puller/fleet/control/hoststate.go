package control

import (
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/fleet"
)

// reportState is a report as it was heard.
type reportState struct {
	fleet.Report
	at      time.Time
	changed uint64
}

// hostState is a host as the controller knows it.
type hostState struct {
	identity *fleet.Identity // nil where it has said nothing yet
	invited  *fleet.Invited  // nil where it was not invited
	desired  *fleet.Desired
	revision uint64 // of desired
	reports  map[string]*reportState
	heard    time.Time // with a monotonic clock; zero for never
	live     bool
	fault    string // what is wrong with what it says
	clone    string // what is known of another daemon with its ID
	cloned   time.Time
	changed  uint64
}

func (m *model) live() (n int) {
	for _, h := range m.hosts {
		if h.live {
			n++
		}
	}
	return n
}

// host returns a host, and makes it known; nil if there are too many. mu is held.
func (m *model) host(id string) *hostState {
	h := m.hosts[id]
	if h == nil && len(m.hosts) < maxHosts {
		h = &hostState{reports: make(map[string]*reportState), heard: m.began}
		m.hosts[id] = h
	}
	return h
}

// expire looks which hosts are not heard any more. mu is held.
func (c *Controller) expire() {
	for _, h := range c.hosts {
		if h.live && time.Since(h.heard) >= c.o.liveFor() {
			h.live = false
			h.changed = c.touch()
			c.nudge()
		}
		if h.clone != "" && time.Since(h.cloned) >= 2*time.Minute {
			h.clone = ""
			h.changed = c.touch()
		}
	}
}

// label returns a label of a host, as labels does.
func (h *hostState) label(id, name string) string {
	switch {
	case name == fleet.LabelHost:
		return id
	case h.invited != nil && name == fleet.LabelZone:
		return h.invited.Zone
	case h.invited != nil:
		return h.invited.Labels[name]
	case h.identity != nil && name == fleet.LabelZone:
		return h.identity.Zone
	case h.identity != nil:
		return h.identity.Labels[name]
	}
	return ""
}

// labels returns the labels of a host that count. Those of an invitation are not the host's
// to choose.
func (h *hostState) labels(id string) map[string]string {
	all := map[string]string{fleet.LabelHost: id}
	switch {
	case h.invited != nil:
		maps.Copy(all, h.invited.Labels)
		if h.invited.Zone != "" {
			all[fleet.LabelZone] = h.invited.Zone
		}
	case h.identity != nil:
		maps.Copy(all, h.identity.Labels)
		if h.identity.Zone != "" {
			all[fleet.LabelZone] = h.identity.Zone
		}
	}
	all[fleet.LabelHost] = id
	return all
}

// zone returns where a host is.
func (h *hostState) zone() string {
	switch {
	case h.invited != nil && h.invited.Zone != "":
		return h.invited.Zone
	case h.identity != nil:
		return h.identity.Zone
	}
	return ""
}

// matches reports whether a host is a member of a set.
func (h *hostState) matches(id, set string, s *setState) bool {
	switch {
	case h.identity == nil && h.desired == nil:
		return false // it was invited, and has never come
	case h.identity == nil && h.invited == nil:
		return h.entry(set) != nil // until it comes, its labels are not known
	}
	for name, value := range s.Request.Hosts {
		if h.label(id, name) != value {
			return false
		}
	}
	return true
}

// entry returns what a host is to have of a set, nil for nothing.
func (h *hostState) entry(set string) *fleet.DesiredSet {
	if h.desired == nil {
		return nil
	}
	for n := range h.desired.Sets {
		if h.desired.Sets[n].Set == set {
			return &h.desired.Sets[n]
		}
	}
	return nil
}

// members returns the IDs of the members of a set, sorted. mu is held.
func (m *model) members(name string, s *setState) (ids []string) {
	for id, h := range m.hosts {
		if h.matches(id, name, s) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
