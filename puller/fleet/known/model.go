// Package known is what a controller knows of its fleet: its sets, its hosts, and how each set
// stands on each host. It does no I/O, and guards nothing: its caller holds a lock.
package known

import (
	"time"

	"github.com/towline/towline/puller/fleet"
)

// MaxHosts is how many hosts are known at most.
const MaxHosts = 20_000

// Model is what a controller knows of its fleet. Its caller guards it, and what it has.
type Model struct {
	Loaded  bool
	Sets    map[string]*Set
	Markers map[string]uint64 // revisions of sets that were deleted
	Unread  map[string]bool   // sets that this controller can't read
	Hosts   map[string]*Host
	Leader  string
	strays  map[string][]string // keys of reports that are to be removed, by host
	began   time.Time           // hosts count as heard from here on, until they could have been

	Change  uint64        // the number of the last change
	Notify  chan struct{} // is closed at the next change
	removed []removal
	Lost    uint64 // removals up to this change are forgotten
}

// removal is a set or a host that is gone.
type removal struct {
	set, host string
	changed   uint64
}

// New returns a Model that knows nothing.
func New() Model {
	return Model{Sets: make(map[string]*Set), Markers: make(map[string]uint64), Unread: make(map[string]bool), Hosts: make(map[string]*Host), strays: make(map[string][]string), Notify: make(chan struct{})}
}

// Touch numbers a change, and wakes readers.
func (m *Model) Touch() uint64 {
	m.Change++
	close(m.Notify)
	m.Notify = make(chan struct{})
	return m.Change
}

// Remove notes that a set or a host is gone.
func (m *Model) Remove(set, host string) {
	const most = 1000
	if len(m.removed) >= most {
		m.Lost = m.removed[0].changed
		m.removed = m.removed[1:]
	}
	m.removed = append(m.removed, removal{set, host, m.Touch()})
}

// Reloading begins to read the state of the fleet anew.
func (m *Model) Reloading() {
	m.began = time.Now()
	for _, h := range m.Hosts {
		if h.Live {
			h.Heard = m.began // while NATS was away it could not be heard
		}
	}
}

// DropOthers forgets what is not kept any more.
func (m *Model) DropOthers(fresh map[string]bool, names fleet.Subjects) {
	for name := range m.Sets {
		if !fresh[names.Sets()+"/"+name] {
			delete(m.Sets, name)
			m.Remove(name, "")
		}
	}
	for id, h := range m.Hosts {
		for set := range h.Reports {
			if !fresh[names.Reports()+"/"+fleet.ReportKey(id, set)] {
				delete(h.Reports, set)
			}
		}
		if !fresh[names.Invited()+"/"+id] {
			h.Invited = nil
		}
		if !fresh[names.Desired()+"/"+id] {
			h.Desired, h.Revision = nil, 0
		}
		if !fresh[names.Reports()+"/"+id] && h.Identity != nil && !h.Live {
			h.Identity = nil
		}
		if h.Identity == nil && h.Invited == nil && h.Desired == nil {
			delete(m.Hosts, id)
			m.Remove("", id)
		}
	}
}
