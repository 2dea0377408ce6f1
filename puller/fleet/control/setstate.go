package control

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/rollout"
	"github.com/towline/towline/puller/keep/schedule"
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
