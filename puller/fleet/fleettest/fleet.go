// Package fleettest has a fleet in memory, whose hosts do what a test says.
package fleettest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/stream"
)

// A Fleet is a fleet.Service without NATS and without time: sets, hosts and reports change
// only by calls. All members are released at once. It may be used from any goroutine.
type Fleet struct {
	mu      sync.Mutex
	link    fleet.Link
	sets    map[string]*fleet.Set // with their members
	hosts   map[string]*fleet.Host
	fault   error // of all calls
	asked   fleet.SetRequest
	invited fleet.InviteRequest
	closed  bool

	version uint64
	latest  map[string]change // by what the event is of: conflated
	changed chan struct{}     // is closed and replaced when something changes
}

// change is the latest event of something.
type change struct {
	version uint64
	event   fleet.Event
}

// New returns a fleet without hosts and sets, seen by a controller.
func New() *Fleet {
	return &Fleet{
		link: fleet.Link{Fleet: "test", Host: "leader", State: fleet.LinkUp, Since: at, Server: "nats://127.0.0.1:4222", Controller: true, Leader: "leader"},
		sets: make(map[string]*fleet.Set), hosts: make(map[string]*fleet.Host), latest: make(map[string]change), changed: make(chan struct{}),
	}
}

// at is when all happens that is not told the time.
var at = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// Digest returns the digest to which a set's generation pins an image.
func Digest(image string, generation uint64) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Append(nil, image, generation)))
}

// Fail has all calls of the Service return an error, until it is called with nil.
func (f *Fleet) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = err
}

// Asked returns the request of the last PutSet, and Invited that of the last Invite.
func (f *Fleet) Asked() fleet.SetRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// Invited returns the request of the last Invite.
func (f *Fleet) Invited() fleet.InviteRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.invited
}

// SetLink has the daemon stand otherwise to its fleet.
func (f *Fleet) SetLink(l fleet.Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link = l
	f.publish("link", fleet.Event{Type: fleet.EventLink, Link: &l})
}

// Add adds hosts, or replaces them. Those that match a set become members of it.
func (f *Fleet) Add(hosts ...fleet.Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range hosts {
		labels := map[string]string{fleet.LabelHost: h.ID}
		if h.Zone != "" {
			labels[fleet.LabelZone] = h.Zone
		}
		maps.Copy(labels, h.Labels)
		h.Labels, h.Counts = labels, map[fleet.State]int{}
		f.hosts[h.ID] = &h
		for _, name := range slices.Sorted(maps.Keys(f.sets)) {
			s := f.sets[name]
			if i, is := f.member(s, h.ID); !is && matches(s.Hosts, labels) {
				s.Members = slices.Insert(s.Members, i, f.newMember(h.ID))
			} else if is {
				s.Members[i] = f.heard(s.Members[i])
			}
			f.count(s)
		}
		f.publish("host "+h.ID, fleet.Event{Type: fleet.EventHost, Host: new(f.host(h.ID))})
	}
}

// Live has a host come or go.
func (f *Fleet) Live(id string, live bool) {
	f.mu.Lock()
	h := *f.hosts[id]
	f.mu.Unlock()
	h.Live = live
	f.Add(h)
}

// Report has a host say how a set stands on it. err is why it has not proven it.
func (f *Fleet) Report(set, host string, state fleet.State, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[set]
	i, is := f.member(s, host)
	if !is {
		panic("fleettest: " + host + " is not to have " + set)
	}
	m := &s.Members[i]
	m.State, m.Last, m.Error, m.Kind, m.Digest, m.At = state, state, "", "", "", at
	if err != nil {
		m.Error, m.Kind = err.Error(), puller.KindOf(err)
	}
	if state == fleet.StateProven {
		m.Generation = s.Generation
		if len(s.Images) == 1 {
			m.Digest = s.Images[0].Digest
		}
	}
	*m = f.heard(*m)
	f.publish("member "+set+" "+host, fleet.Event{Type: fleet.EventMember, Name: set, Generation: s.Generation, Member: new(*m)})
	f.count(s)
}

// Close ends the readers.
func (f *Fleet) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.notify()
}

// newMember returns a host as a member that has not said anything.
func (f *Fleet) newMember(id string) fleet.MemberState {
	return f.heard(fleet.MemberState{Host: id, State: fleet.StateWaiting, Last: fleet.StateWaiting, Released: true})
}

// heard returns a member with the state that follows from whether its host is heard.
func (f *Fleet) heard(m fleet.MemberState) fleet.MemberState {
	last := cmp.Or(m.Last, m.State)
	m.State, m.Last = last, ""
	if !f.hosts[m.Host].Live {
		m.State, m.Last = fleet.StateAway, last
	}
	return m
}

func (f *Fleet) member(s *fleet.Set, host string) (int, bool) {
	return slices.BinarySearchFunc(s.Members, host, func(m fleet.MemberState, id string) int { return strings.Compare(m.Host, id) })
}

func matches(wanted, labels map[string]string) bool {
	for name, value := range wanted {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// count counts the members of a set, and tells of it.
func (f *Fleet) count(s *fleet.Set) {
	s.Counts = make(map[fleet.State]int)
	s.Rollout.Failures = 0
	for _, m := range s.Members {
		s.Counts[m.State]++
		if m.State == fleet.StateFailed || m.State == fleet.StateRefused {
			s.Rollout.Failures++
		}
	}
	s.Rollout.Members, s.Rollout.Released = len(s.Members), len(s.Members)
	f.publish("set "+s.Name, fleet.Event{Type: fleet.EventSet, Set: new(without(*s))})
}

// without returns a copy of a set without its members.
func without(s fleet.Set) fleet.Set {
	s.Members, s.Counts = nil, maps.Clone(s.Counts)
	return s
}

// host returns a host with its counts, and whether it is a member counts.
func (f *Fleet) host(id string) fleet.Host {
	h := *f.hosts[id]
	h.Counts = make(map[fleet.State]int)
	for _, s := range f.sets {
		if i, is := f.member(s, id); is {
			h.Counts[s.Members[i].State]++
		}
	}
	return h
}

// publish makes an event the latest of its kind. The lock is held.
func (f *Fleet) publish(what string, e fleet.Event) {
	e.Time = at
	f.version++
	f.latest[what] = change{f.version, e}
	f.notify()
}

func (f *Fleet) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// reader is a fleet.Reader.
type reader struct {
	f       *Fleet
	name    string
	version uint64
}

// Next implements [fleet.Reader].
func (r *reader) Next(ctx context.Context, wait time.Duration) (*stream.Batch, error) {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		r.f.mu.Lock()
		frames, changed, closed := r.frames(), r.f.changed, r.f.closed
		r.version = r.f.version
		r.f.mu.Unlock()
		switch {
		case len(frames) > 0:
			return stream.NewBatch(frames...), nil
		case closed:
			return nil, io.EOF
		}
		select {
		case <-changed:
		case <-limit.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// frames returns what is new to the reader. The lock is held.
func (r *reader) frames() (frames []stream.Frame) {
	all := slices.SortedFunc(maps.Values(r.f.latest), func(a, b change) int { return cmp.Compare(a.version, b.version) })
	for _, c := range all {
		if c.version > r.version && r.wants(c.event) {
			frames = append(frames, c.event.Frame())
		}
	}
	return frames
}

func (r *reader) wants(e fleet.Event) bool {
	switch e.Type {
	case fleet.EventSet:
		return r.name == "" || e.Set.Name == r.name
	case fleet.EventMember:
		return e.Name == r.name
	case fleet.EventRemoved:
		return r.name == "" || e.Name == r.name
	}
	return r.name == ""
}
