package control

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// answer tells a host with whom it shares a set.
func (c *Controller) answer(m *nats.Msg) {
	if m.Reply == "" {
		return
	}
	id := m.Subject[len(c.names.Asks())-1:]
	data, err := c.group(id, m.Data)
	if err != nil {
		data = fleet.Encode(fleet.Answer{Error: err.Error()})
	}
	m.Respond(data)
}

// groupFor is how long an answer is given to all that ask: after a put, all hosts of a set ask
// at about the same time.
const groupFor = 500 * time.Millisecond

// groupAnswer is an encoded answer, without Self, which the host knows.
type groupAnswer struct {
	data []byte
	made time.Time
}

// group answers with the hosts that have, or are to have, what a host is to have of a set.
func (c *Controller) group(id string, question []byte) ([]byte, error) {
	var q fleet.Question
	if len(question) > fleet.MaxBeat || json.Unmarshal(question, &q) != nil {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "the question can't be read")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, h := c.sets[q.Set], c.hosts[id]
	if s == nil || h == nil || !h.matches(id, q.Set, s) {
		return nil, puller.Errorf(puller.ErrForbidden, "the host is no member of a set of that name")
	}
	if !s.gives(id, h.entry(q.Set)) {
		return nil, puller.Errorf(puller.ErrForbidden, "the host is not to have this generation yet")
	}
	if time.Since(s.group.made) < groupFor {
		return s.group.data, nil
	}
	g := fleet.Group{Set: q.Set, Generation: s.Generation, Key: s.Key}
	for _, other := range c.members(q.Set, s) {
		o := c.hosts[other]
		if o.identity != nil && o.live && o.identity.Address != "" && s.gives(other, o.entry(q.Set)) {
			g.Members = append(g.Members, fleet.Member{Host: other, Zone: o.zone(), Address: o.identity.Address})
		}
	}
	data := fleet.Encode(fleet.Answer{Group: &g})
	if len(data) > fleet.MaxAnswer {
		return nil, puller.Errorf(puller.ErrOverloaded, "the group of %d hosts is too large for an answer", len(g.Members))
	}
	s.group = groupAnswer{data, time.Now()}
	return data, nil
}

// gives reports whether a member is to have the present generation, of which it has an entry
// or none. While a wave is written, all of the wave count: hosts that know different members
// of it would each ask the registry.
func (s *setState) gives(id string, e *fleet.DesiredSet) bool {
	return s.Rollout.State == fleet.RolloutDone || e != nil && e.Generation == s.Generation || s.releasing[id]
}
