package control

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
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

// group answers with the hosts that have, or are to have, what a host is to have of a set.
func (c *Controller) group(id string, question []byte) ([]byte, error) {
	var q fleet.Question
	if len(question) > fleet.MaxBeat || json.Unmarshal(question, &q) != nil {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "the question can't be read")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, h := c.known.Sets[q.Set], c.known.Hosts[id]
	if s == nil || h == nil || !h.Matches(id, q.Set, s) {
		return nil, puller.Errorf(puller.ErrForbidden, "the host is no member of a set of that name")
	}
	if !s.Gives(id, h.Entry(q.Set)) {
		return nil, puller.Errorf(puller.ErrForbidden, "the host is not to have this generation yet")
	}
	if time.Since(s.Group.Made) < groupFor {
		return s.Group.Data, nil
	}
	g := fleet.Group{Set: q.Set, Generation: s.Generation, Key: s.Key}
	for _, other := range c.known.Members(q.Set, s) {
		o := c.known.Hosts[other]
		if o.Identity != nil && o.Live && o.Identity.Address != "" && s.Gives(other, o.Entry(q.Set)) {
			g.Members = append(g.Members, fleet.Member{Host: other, Zone: o.Zone(), Address: o.Identity.Address})
		}
	}
	data := fleet.Encode(fleet.Answer{Group: &g})
	if len(data) > fleet.MaxAnswer {
		return nil, puller.Errorf(puller.ErrOverloaded, "the group of %d hosts is too large for an answer", len(g.Members))
	}
	s.Group = known.Answer{Data: data, Made: time.Now()}
	return data, nil
}
