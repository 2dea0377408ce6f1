package control

import (
	"time"

	"github.com/towline/towline/puller/fleet"
)

const (
	maxHosts = 20_000
	unread   = -1   // the format of a record that can't be read
	maxStray = 1000 // reports of no set that wait for their removal
)

// model is what a controller knows of its fleet. Controller.mu guards it.
type model struct {
	loaded  bool
	sets    map[string]*setState
	markers map[string]uint64 // revisions of sets that were deleted
	unread  map[string]bool   // sets that this controller can't read
	hosts   map[string]*hostState
	stray   []string // keys of reports of no set
	leader  string
	began   time.Time // hosts count as heard from here on, until they could have been

	change  uint64        // the number of the last change
	notify  chan struct{} // is closed at the next change
	removed []removal
	lost    uint64 // removals up to this change are forgotten
}

// removal is a set or a host that is gone.
type removal struct {
	set, host string
	changed   uint64
}

func newModel() model {
	return model{sets: make(map[string]*setState), markers: make(map[string]uint64), unread: make(map[string]bool), hosts: make(map[string]*hostState), notify: make(chan struct{})}
}

// touch numbers a change, and wakes readers. mu is held.
func (m *model) touch() uint64 {
	m.change++
	close(m.notify)
	m.notify = make(chan struct{})
	return m.change
}

// remove notes that a set or a host is gone. mu is held.
func (m *model) remove(set, host string) {
	const most = 1000
	if len(m.removed) >= most {
		m.lost = m.removed[0].changed
		m.removed = m.removed[1:]
	}
	m.removed = append(m.removed, removal{set, host, m.touch()})
}

// reloading begins to read the state of the fleet anew.
func (c *Controller) reloading() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = time.Now()
	for _, h := range c.hosts {
		if h.live {
			h.heard = c.began // while NATS was away it could not be heard
		}
	}
	return make(map[string]bool)
}

// dropOthers forgets what is not kept any more. mu is held.
func (m *model) dropOthers(fresh map[string]bool, names fleet.Subjects) {
	for name := range m.sets {
		if !fresh[names.Sets()+"/"+name] {
			delete(m.sets, name)
			m.remove(name, "")
		}
	}
	for id, h := range m.hosts {
		for set := range h.reports {
			if !fresh[names.Reports()+"/"+fleet.ReportKey(id, set)] {
				delete(h.reports, set)
			}
		}
		if !fresh[names.Invited()+"/"+id] {
			h.invited = nil
		}
		if !fresh[names.Desired()+"/"+id] {
			h.desired, h.revision = nil, 0
		}
		if !fresh[names.Reports()+"/"+id] && h.identity != nil && !h.live {
			h.identity = nil
		}
		if h.identity == nil && h.invited == nil && h.desired == nil {
			delete(m.hosts, id)
			m.remove("", id)
		}
	}
}
