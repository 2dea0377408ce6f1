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
)

// gone reports whether an entry says that its key is not there any more.
func gone(e jetstream.KeyValueEntry) bool { return e.Operation() != jetstream.KeyValuePut }

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
