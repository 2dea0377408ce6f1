package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/rollout"
	"github.com/towline/towline/puller/keep/schedule"
)

const (
	maxHosts = 20_000
	unread   = -1   // the format of a record that can't be read
	maxStray = 1000 // reports of no set that wait for their removal
)

// record is a set as it is kept.
type record struct {
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
	Previous *pinned `json:"previous,omitempty"`
}

// pinned is an older generation.
type pinned struct {
	Generation uint64        `json:"generation"`
	Images     []fleet.Image `json:"images"`
}

// setState is a set as the controller knows it. record does not change.
type setState struct {
	*record
	revision uint64
	sum      string
	pace     rollout.Pace
	when     schedule.Schedule

	fault   string    // why its tags could not be resolved again
	retryAt time.Time // when they are tried again after that
	busy    bool      // they are being resolved
	pausing time.Time // since when its rollout is pausing here
	group   groupAnswer
	// releasing are the members that the last step of this controller has released.
	releasing map[string]bool
	changed   uint64
}

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

// gone reports whether an entry says that its key is not there any more.
func gone(e jetstream.KeyValueEntry) bool { return e.Operation() != jetstream.KeyValuePut }

// applySet takes up a set as it is kept.
func (c *Controller) applySet(e jetstream.KeyValueEntry) {
	name := e.Key()
	var s *setState
	if !gone(e) {
		var err error
		if s, err = c.readSet(name, e.Value()); err != nil {
			c.o.Log.WithField("set", puller.Clip(name)).WithError(err).Error("a set of the fleet can't be read; hosts keep what they have of it; put it again")
			c.mu.Lock()
			defer c.mu.Unlock()
			c.unread[name] = true
			return
		}
		s.revision = e.Revision()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putSet(name, s, e.Revision())
	c.nudge()
}

// readSet reads a set.
func (c *Controller) readSet(name string, value []byte) (*setState, error) {
	if err := fleet.CheckSetName(name); err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	if r.Format > fleet.Format {
		return nil, fleet.ErrFormat{Format: r.Format}
	}
	if r.Generation == 0 || len(r.Images) == 0 {
		return nil, fmt.Errorf("it has no generation, or no images")
	}
	return c.newState(name, &r)
}

func (c *Controller) newState(name string, r *record) (*setState, error) {
	pace, err := rollout.ParsePace(r.Request.Rollout)
	if err != nil {
		return nil, err
	}
	when, err := schedule.New(scheduleOf(r.Request))
	if err != nil {
		return nil, err
	}
	return &setState{record: r, sum: fleet.SumOf(r.Images), pace: pace, when: when.WithHost(c.o.Fleet, name)}, nil
}

func scheduleOf(r fleet.SetRequest) schedule.Request {
	// The window is the hosts' own.
	return schedule.Request{Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter}
}

// putSet makes a set known, nil if it is deleted. mu is held.
func (c *Controller) putSet(name string, s *setState, revision uint64) {
	delete(c.unread, name)
	old := c.sets[name]
	if old != nil && old.revision >= revision || c.markers[name] >= revision {
		return // it is known
	}
	if s == nil {
		c.markers[name] = revision
		if old != nil {
			delete(c.sets, name)
			for id, h := range c.hosts {
				if h.reports[name] != nil {
					delete(h.reports, name)
					c.strayed(fleet.ReportKey(id, name))
				}
			}
			c.remove(name, "")
		}
		return
	}
	delete(c.markers, name)
	if old != nil && old.Generation == s.Generation {
		s.fault, s.retryAt, s.busy, s.pausing, s.releasing = old.fault, old.retryAt, old.busy, old.pausing, old.releasing
	}
	switch {
	case s.Rollout.State != fleet.RolloutPausing:
		s.pausing = time.Time{}
	case s.pausing.IsZero():
		s.pausing = time.Now() // another controller's clock is not known
	}
	c.sets[name] = s
	s.changed = c.touch()
}

func (m *model) strayed(key string) {
	if len(m.stray) < maxStray {
		m.stray = append(m.stray, key)
	}
}

// applyInvited takes up an invitation.
func (c *Controller) applyInvited(e jetstream.KeyValueEntry) {
	var i *fleet.Invited
	if !gone(e) {
		i = new(fleet.Invited)
		if err := json.Unmarshal(e.Value(), i); err != nil {
			c.fault(e.Key(), "invitation", err)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i == nil && c.hosts[e.Key()] == nil {
		return // it was removed
	}
	if h := c.host(e.Key()); h != nil {
		h.invited = i
		h.changed = c.touch()
		c.nudge()
	}
}

// applyDesired takes up what a host is to have.
func (c *Controller) applyDesired(e jetstream.KeyValueEntry) {
	var d *fleet.Desired
	if !gone(e) {
		read, err := fleet.ParseDesired(e.Value())
		if err != nil {
			read = fleet.Desired{Format: unread}
			var format fleet.ErrFormat
			if errors.As(err, &format) {
				read.Format = format.Format // a later controller has written it, and it stays
			}
			c.o.Log.WithField("host", puller.Clip(e.Key())).WithError(err).Error("what a host is to have can't be read; what a later Towline wrote stays, and anything else is written again")
		}
		d = &read
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == nil && c.hosts[e.Key()] == nil {
		return // it was removed
	}
	if h := c.host(e.Key()); h != nil && e.Revision() > h.revision {
		h.desired, h.revision = d, e.Revision()
		h.changed = c.touch()
		c.nudge()
	}
}

// applyReport takes up what a host says.
func (c *Controller) applyReport(e jetstream.KeyValueEntry) {
	id, set := hostOf(e.Key())
	if set == "" {
		c.applyIdentity(id, e)
		return
	}
	var r fleet.Report
	if !gone(e) {
		var err error
		if err = fleet.CheckSetName(set); err == nil {
			r, err = fleet.ParseReport(e.Value())
		}
		if err != nil {
			c.fault(id, "report", err)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.strayed(e.Key())
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[id]
	switch {
	case h == nil:
		c.strayed(e.Key()) // a host says first who it is
	case gone(e):
		if h.reports[set] != nil {
			delete(h.reports, set)
			h.changed = c.touch()
		}
	case c.sets[set] == nil:
		c.strayed(e.Key())
	default:
		h.reports[set] = &reportState{Report: r, at: time.Now().UTC(), changed: c.touch()}
	}
	c.nudge()
}

func (c *Controller) applyIdentity(id string, e jetstream.KeyValueEntry) {
	var i *fleet.Identity
	fault := ""
	if !gone(e) {
		read, err := fleet.ParseIdentity(e.Value())
		if err == nil {
			err = fleet.CheckHost(id)
		}
		if err != nil {
			fault = "what it says of itself can't be read: " + err.Error()
			c.fault(id, "identity", err)
		} else {
			i = &read
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i == nil && c.hosts[id] == nil && fault == "" {
		return // it was removed
	}
	h := c.host(id)
	if h == nil {
		return
	}
	if i != nil && h.identity != nil && h.identity.Session != i.Session && i.Session != "" {
		h.heard = time.Now() // it has joined
	}
	if h.fault = fault; fault == "" {
		h.identity = i
	}
	if i != nil && i.Session == "" {
		h.live = false // it has left
	} else if i != nil && time.Since(h.heard) < c.o.liveFor() {
		h.live = true
	}
	h.changed = c.touch()
	c.nudge()
}

// hear takes up a beat.
func (c *Controller) hear(m *nats.Msg) {
	id := m.Subject[len(c.names.Beats())-1:]
	b, err := fleet.ParseBeat(m.Data)
	if err != nil {
		c.fault(id, "beat", err)
		return
	}
	c.mu.Lock()
	h := c.hosts[id]
	clone := false
	switch {
	case h == nil || h.identity == nil:
	case b.Session == h.identity.Session:
		h.heard = time.Now()
		if !h.live {
			h.live = true
			h.changed = c.touch()
			c.nudge()
		}
	case h.identity.Session != "" && !b.Ask:
		clone = time.Since(h.cloned) >= time.Minute
		if h.clone, h.cloned = b.Name, time.Now(); clone {
			h.changed = c.touch()
		}
	}
	c.mu.Unlock()
	if clone {
		c.o.Log.WithFields(logrus.Fields{"host": id, "machine": b.Name, "session": puller.Clip(b.Session)}).Error("another daemon has the ID of a host of the fleet; it is refused; give it credentials or a state_dir of its own")
	}
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
