package known

import (
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// groupFor is how long an answer is given to all that ask: after a put, all hosts of a set ask
// at about the same time.
const groupFor = 500 * time.Millisecond

// Group returns the encoded answer to the question of a host about a set: the hosts that have,
// or are to have, what it is to have of it. The error is ErrForbidden where the host is not to
// have it, and ErrOverloaded where there are too many of them for an answer.
func (m *Model) Group(id, set string) ([]byte, error) {
	s, h := m.Sets[set], m.Hosts[id]
	if s == nil || h == nil || !h.Matches(id, set, s) {
		return nil, puller.Errorf(puller.ErrForbidden, "the host is no member of a set of that name")
	}
	if !s.Gives(id, h.Entry(set)) {
		return nil, puller.Errorf(puller.ErrForbidden, "the host is not to have this generation yet")
	}
	if time.Since(s.group.made) < groupFor {
		return s.group.data, s.group.err
	}
	g := fleet.Group{Set: set, Generation: s.Generation, Key: s.Key}
	for _, other := range m.Members(set, s) {
		o := m.Hosts[other]
		if o.Identity != nil && o.Live && o.Identity.Address != "" && s.Gives(other, o.Entry(set)) {
			g.Members = append(g.Members, fleet.Member{Host: other, Zone: o.Zone(), Address: o.Identity.Address})
		}
	}
	s.group = answer{data: fleet.Encode(fleet.Answer{Group: &g}), made: time.Now()}
	if n := len(s.group.data); n > fleet.MaxAnswer {
		s.group.data, s.group.err = nil, puller.Errorf(puller.ErrOverloaded, "the set %s has %d live members, which are %d bytes in an answer, and at most %d are sent: its hosts pull from the registry, and not from each other; make sets of it with fewer hosts each, by labels", set, len(g.Members), n, fleet.MaxAnswer)
	}
	return s.group.data, s.group.err
}

// answer is an encoded answer about a group, without Self, which the host knows.
type answer struct {
	data []byte
	err  error
	made time.Time
}

// Platforms returns those of the hosts that a request matches, sorted.
func (m *Model) Platforms(name string, r fleet.SetRequest) (all []string) {
	s := &Set{Record: &Record{Request: r}}
	for _, id := range m.Members(name, s) {
		if h := m.Hosts[id]; h.Identity != nil && h.Identity.Platform != "" {
			all = append(all, h.Identity.Platform)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Room returns why a set can't be kept beside the others, nil if it can.
func (m *Model) Room(name string, r fleet.SetRequest, images []fleet.Image) error {
	size := len(fleet.Encode(images)) + 500
	if m.Sets[name] == nil && len(m.Sets) >= fleet.MaxSets {
		return puller.Overloaded("the fleet has %d sets, as many as there may be; delete one", len(m.Sets))
	}
	s := &Set{Record: &Record{Request: r}}
	for _, id := range m.Members(name, s) {
		have := size
		if d := m.Hosts[id].Desired; d != nil {
			for _, other := range d.Sets {
				if other.Set != name {
					have += len(fleet.Encode(other))
				}
			}
		}
		if have > fleet.MaxDesired {
			return puller.Errorf(puller.ErrInvalidRequest, "images: with this set, what the host %s is to have has %d bytes, and at most %d are written; make its sets smaller", id, have, fleet.MaxDesired)
		}
	}
	return nil
}
