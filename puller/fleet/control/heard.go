package control

import (
	"encoding/json"
	"errors"
	"time"

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
			c.known.Strayed(e.Key())
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.known.Hosts[id]
	switch {
	case h == nil:
		c.known.Strayed(e.Key()) // a host says first who it is
	case gone(e):
		if h.Reports[set] != nil {
			delete(h.Reports, set)
			h.Touched = c.known.Touch()
		}
	case c.known.Sets[set] == nil:
		c.known.Strayed(e.Key())
	default:
		h.Reports[set] = &known.Report{Report: r, At: time.Now().UTC(), Touched: c.known.Touch()}
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
	if i == nil && c.known.Hosts[id] == nil && fault == "" {
		return // it was removed
	}
	h := c.known.Host(id)
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
	} else if i != nil && time.Since(h.Heard) < c.o.liveFor() {
		h.Live = true
	}
	h.Touched = c.known.Touch()
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
	h := c.known.Hosts[id]
	clone := false
	switch {
	case h == nil || h.Identity == nil:
	case b.Session == h.Identity.Session:
		h.Heard = time.Now()
		if !h.Live {
			h.Live = true
			h.Touched = c.known.Touch()
			c.nudge()
		}
	case h.Identity.Session != "" && !b.Ask:
		clone = time.Since(h.Cloned) >= time.Minute
		if h.Clone, h.Cloned = b.Name, time.Now(); clone {
			h.Touched = c.known.Touch()
		}
	}
	c.mu.Unlock()
	if clone {
		c.o.Log.WithFields(logrus.Fields{"host": id, "machine": b.Name, "session": puller.Clip(b.Session)}).Error("another daemon has the ID of a host of the fleet; it is refused; give it credentials or a state_dir of its own")
	}
}
