package control

import (
	"encoding/json"

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
	var a fleet.Answer
	group, err := c.group(id, m.Data)
	if err != nil {
		a.Error = err.Error()
	} else {
		a.Group = &group
	}
	data := fleet.Encode(a)
	if len(data) > fleet.MaxAnswer {
		data = fleet.Encode(fleet.Answer{Error: "the group is too large for an answer"})
	}
	m.Respond(data)
}

// group returns the hosts that have, or are to have, what a host is to have of a set.
func (c *Controller) group(id string, question []byte) (fleet.Group, error) {
	var q fleet.Question
	if len(question) > fleet.MaxBeat || json.Unmarshal(question, &q) != nil {
		return fleet.Group{}, puller.Errorf(puller.ErrInvalidRequest, "the question can't be read")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, h := c.sets[q.Set], c.hosts[id]
	if s == nil || h == nil || !h.matches(id, q.Set, s) {
		return fleet.Group{}, puller.Errorf(puller.ErrForbidden, "the host is no member of a set of that name")
	}
	if e := h.entry(q.Set); e == nil || e.Generation != s.Generation {
		return fleet.Group{}, puller.Errorf(puller.ErrForbidden, "the host is not to have this generation yet")
	}
	g := fleet.Group{Set: q.Set, Generation: s.Generation, Self: id, Key: s.Key}
	for _, other := range c.members(q.Set, s) {
		o := c.hosts[other]
		e := o.entry(q.Set)
		if o.identity != nil && (o.live && o.identity.Address != "" || other == id) && e != nil && e.Generation == s.Generation {
			g.Members = append(g.Members, fleet.Member{Host: other, Zone: o.zone(), Address: o.identity.Address})
		}
	}
	return g, nil
}
