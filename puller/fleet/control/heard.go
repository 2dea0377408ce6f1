package control

import (
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
)

// unreadable is the format of a record that can't be read.
const unreadable = -1

// gone reports whether an entry says that its key is not there any more.
func gone(e jetstream.KeyValueEntry) bool { return e.Operation() != jetstream.KeyValuePut }

// applySet takes up a set as it is kept.
func (c *Controller) applySet(e jetstream.KeyValueEntry) {
	name := e.Key()
	var s *known.Set
	if !gone(e) {
		var err error
		if s, err = known.ReadSet(c.o.Fleet, name, e.Value()); err != nil {
			c.o.Log.WithField("set", puller.Clip(name)).WithError(err).Error("a set of the fleet can't be read; hosts keep what they have of it; put it again")
			c.mu.Lock()
			defer c.mu.Unlock()
			c.known.Unread[name] = true
			return
		}
		s.Revision = e.Revision()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.PutSet(name, s, e.Revision())
	c.nudge()
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
	if i == nil && c.known.Hosts[e.Key()] == nil {
		return // it was removed
	}
	if h := c.known.Host(e.Key()); h != nil {
		h.Invited = i
		h.Touched = c.known.Touch()
		c.nudge()
	}
}

// applyDesired takes up what a host is to have.
func (c *Controller) applyDesired(e jetstream.KeyValueEntry) {
	var d *fleet.Desired
	if !gone(e) {
		read, err := fleet.ParseDesired(e.Value())
		if err != nil {
			read = fleet.Desired{Format: unreadable}
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
	if d == nil && c.known.Hosts[e.Key()] == nil {
		return // it was removed
	}
	if h := c.known.Host(e.Key()); h != nil && e.Revision() > h.Revision {
		h.Desired, h.Revision = d, e.Revision()
		h.Touched = c.known.Touch()
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
	var r *fleet.Report
	if !gone(e) {
		read, err := fleet.ParseReport(e.Value())
		if err == nil {
			err = fleet.CheckSetName(set)
		}
		if err != nil {
			c.fault(id, "report", err)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.known.Strayed(e.Key())
			return
		}
		r = &read
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.HearReport(id, set, r)
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
	c.known.HearIdentity(id, i, fault, c.o.liveFor())
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
	news, clone := c.known.HearBeat(id, b)
	c.mu.Unlock()
	if news {
		c.nudge()
	}
	if clone {
		c.o.Log.WithFields(logrus.Fields{"host": id, "machine": b.Name, "session": puller.Clip(b.Session)}).Error("another daemon has the ID of a host of the fleet; it is refused; give it credentials or a state_dir of its own")
	}
}
