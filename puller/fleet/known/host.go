package known

import (
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/fleet"
)

// Report is a report as it was heard.
type Report struct {
	fleet.Report
	At      time.Time
	Touched uint64 // the number of its last change
}

// Host is a host as the controller knows it.
type Host struct {
	Identity *fleet.Identity // nil where it has said nothing yet
	Invited  *fleet.Invited  // nil where it was not invited
	Desired  *fleet.Desired
	Revision uint64 // of Desired
	Reports  map[string]*Report
	Heard    time.Time // with a monotonic clock; zero for never
	Live     bool
	Fault    string // what is wrong with what it says
	Clone    string // what is known of another daemon with its ID
	Cloned   time.Time
	Touched  uint64 // the number of its last change
}

// Live returns how many hosts are live.
func (m *Model) Live() (n int) {
	for _, h := range m.Hosts {
		if h.Live {
			n++
		}
	}
	return n
}

// Host returns a host, and makes it known; nil if there are too many.
func (m *Model) Host(id string) *Host {
	h := m.Hosts[id]
	if h == nil && len(m.Hosts) < MaxHosts {
		h = &Host{Reports: make(map[string]*Report), Heard: m.began}
		m.Hosts[id] = h
	}
	return h
}

// Label returns a label of a host, as Labels does.
func (h *Host) Label(id, name string) string {
	switch {
	case name == fleet.LabelHost:
		return id
	case h.Invited != nil && name == fleet.LabelZone:
		return h.Invited.Zone
	case h.Invited != nil:
		return h.Invited.Labels[name]
	case h.Identity != nil && name == fleet.LabelZone:
		return h.Identity.Zone
	case h.Identity != nil:
		return h.Identity.Labels[name]
	}
	return ""
}

// Labels returns the labels of a host that count. Those of an invitation are not the host's
// to choose.
func (h *Host) Labels(id string) map[string]string {
	all := map[string]string{fleet.LabelHost: id}
	switch {
	case h.Invited != nil:
		maps.Copy(all, h.Invited.Labels)
		if h.Invited.Zone != "" {
			all[fleet.LabelZone] = h.Invited.Zone
		}
	case h.Identity != nil:
		maps.Copy(all, h.Identity.Labels)
		if h.Identity.Zone != "" {
			all[fleet.LabelZone] = h.Identity.Zone
		}
	}
	all[fleet.LabelHost] = id
	return all
}

// Zone returns where a host is.
func (h *Host) Zone() string {
	switch {
	case h.Invited != nil && h.Invited.Zone != "":
		return h.Invited.Zone
	case h.Identity != nil:
		return h.Identity.Zone
	}
	return ""
}

// Matches reports whether a host is a member of a set.
func (h *Host) Matches(id, set string, s *Set) bool {
	switch {
	case h.Identity == nil && h.Desired == nil:
		return false // it was invited, and has never come
	case h.Identity == nil && h.Invited == nil:
		return h.Entry(set) != nil // until it comes, its labels are not known
	}
	for name, value := range s.Request.Hosts {
		if h.Label(id, name) != value {
			return false
		}
	}
	return true
}

// Entry returns what a host is to have of a set, nil for nothing.
func (h *Host) Entry(set string) *fleet.DesiredSet {
	if h.Desired == nil {
		return nil
	}
	for n := range h.Desired.Sets {
		if h.Desired.Sets[n].Set == set {
			return &h.Desired.Sets[n]
		}
	}
	return nil
}

// Members returns the IDs of the members of a set, sorted.
func (m *Model) Members(name string, s *Set) (ids []string) {
	for id, h := range m.Hosts {
		if h.Matches(id, name, s) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
