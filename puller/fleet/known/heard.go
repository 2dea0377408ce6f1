package known

import (
	"fmt"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// HearReport takes up what a host says of a set, nil where that is not there any more.
func (m *Model) HearReport(id, set string, r *fleet.Report) {
	h := m.Hosts[id]
	switch {
	case h == nil || r != nil && m.Sets[set] == nil:
		m.Strayed(fleet.ReportKey(id, set)) // a host says first who it is
	case r != nil:
		h.Reports[set] = &Report{Report: *r, At: time.Now().UTC(), Touched: m.Touch()}
	case h.Reports[set] != nil:
		delete(h.Reports, set)
		h.Touched = m.Touch()
	}
}

// HearUnread takes up that what a host says of a set can't be read. Where it is to have the set,
// the host may be of another version, and is shown with that.
func (m *Model) HearUnread(id, set string, why error) {
	h := m.Hosts[id]
	if h == nil || m.Sets[set] == nil || h.Entry(set) == nil {
		m.Strayed(fleet.ReportKey(id, set))
		return
	}
	m.HearReport(id, set, &fleet.Report{
		Generation: h.Entry(set).Generation, State: fleet.StateFailed, Kind: puller.ErrInternal,
		Error: fmt.Sprintf("what the host reports can't be read: %v; %s", why, h.olderOrNewer()),
	})
}

// olderOrNewer says what to do about a host that reports as this Towline does not.
func (h *Host) olderOrNewer() string {
	version := "not known"
	if h.Identity != nil && h.Identity.Version != "" {
		version = h.Identity.Version
	}
	return "the version of its Towline is " + version + ": update it, or the controllers where they are older"
}

// HearIdentity takes up what a host says of itself, nil where that is not there any more, or
// has a fault. A host counts as live for liveFor after it was heard.
func (m *Model) HearIdentity(id string, i *fleet.Identity, fault string, liveFor time.Duration) {
	if i == nil && m.Hosts[id] == nil && fault == "" {
		return // it was removed
	}
	h := m.Host(id)
	if h == nil {
		return
	}
	if i != nil && h.Identity != nil && h.Identity.Session != i.Session && i.Session != "" {
		h.Heard = time.Now() // it has joined
	}
	if h.Fault = fault; fault == "" {
		h.Identity = i
	}
	if i != nil && i.Session == "" {
		h.Live = false // it has left
	} else if i != nil && time.Since(h.Heard) < liveFor {
		h.Live = true
	}
	h.Touched = m.Touch()
}

// HearBeat takes up a beat. news says that something follows from it, and clone that another
// daemon has the ID of the host, once a minute.
func (m *Model) HearBeat(id string, b fleet.Beat) (news, clone bool) {
	h := m.Hosts[id]
	switch {
	case h == nil || h.Identity == nil:
	case b.Session == h.Identity.Session:
		h.Heard = time.Now()
		if news = !h.Live; news {
			h.Live = true
			h.Touched = m.Touch()
		}
	case h.Identity.Session != "" && !b.Ask:
		clone = time.Since(h.Cloned) >= time.Minute
		if h.Clone, h.Cloned = b.Name, time.Now(); clone {
			h.Touched = m.Touch()
		}
	}
	return news, clone
}
