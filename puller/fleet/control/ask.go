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
	data, err := c.group(id, m.Data)
	if err != nil {
		data = fleet.Encode(fleet.Answer{Error: err.Error()})
	}
	m.Respond(data)
}

// group answers with the hosts that have, or are to have, what a host is to have of a set.
func (c *Controller) group(id string, question []byte) ([]byte, error) {
	var q fleet.Question
	if len(question) > fleet.MaxBeat || json.Unmarshal(question, &q) != nil {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "the question can't be read")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.Group(id, q.Set)
}
