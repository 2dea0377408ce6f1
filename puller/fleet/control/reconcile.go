package control

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
	"github.com/towline/towline/puller/fleet/rollout"
)

// isConflict reports whether a record has changed since it was read.
func isConflict(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch)
}

func isMissing(err error) bool {
	return errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted)
}

// rolloutStep is what a rollout has come to.
type rolloutStep struct {
	state    *known.Set
	next     rollout.Record
	changed  bool
	released map[string]bool // hosts that get the generation now
}

// rollouts steps all rollouts.
func (c *Controller) rollouts() map[string]rolloutStep {
	c.mu.Lock()
	defer c.mu.Unlock()
	steps := make(map[string]rolloutStep)
	for name, s := range c.known.Sets {
		paused := time.Duration(0)
		if !s.Pausing.IsZero() {
			paused = time.Since(s.Pausing)
		}
		next, released := s.Rollout.Step(name, s.Pace, c.known.Progress(name, s), paused)
		step := rolloutStep{state: s, next: next, changed: next != s.Rollout, released: make(map[string]bool, len(released))}
		for _, id := range released {
			step.released[id] = true
		}
		steps[name] = step
	}
	return steps
}

// keepRollout keeps how far a rollout is, before anything follows from it.
func (c *Controller) keepRollout(ctx context.Context, s *session, name string, step rolloutStep) bool {
	r := *step.state.Record
	r.Rollout = step.next
	if err := c.keep(ctx, s, name, &r, step.state.Revision); err != nil {
		if !isConflict(err) && ctx.Err() == nil {
			c.o.Log.WithField("set", name).WithError(err).Warn("the rollout of a set could not be kept; it is tried again")
		}
		return false
	}
	log := c.o.Log.WithFields(logrus.Fields{"set": name, "generation": r.Generation, "wave": r.Rollout.Wave, "state": r.Rollout.State})
	if r.Rollout.State == fleet.RolloutStopped {
		log.WithField("reason", r.Rollout.Reason).Error("the rollout of a set has stopped")
	} else {
		log.Info("the rollout of a set goes on")
	}
	return true
}

// keep keeps a set in the place of a revision, 0 for none.
func (c *Controller) keep(ctx context.Context, s *session, name string, r *known.Record, revision uint64) error {
	next, err := known.NewSet(c.o.Fleet, name, r)
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if next.Revision, err = s.sets.Update(limit, name, fleet.Encode(r), revision); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.PutSet(name, next, next.Revision)
	c.nudge()
	return nil
}

// write is a record of what a host is to have that must be written.
type write struct {
	desired  fleet.Desired
	value    []byte
	revision uint64
}

// writes returns what hosts are to have that is not what is kept.
func (c *Controller) writes() map[string]write {
	steps := c.rollouts()
	for _, step := range steps {
		if step.changed {
			clear(step.released) // it is to be kept first
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, step := range steps {
		if s := c.known.Sets[name]; s != nil && s.Generation == step.state.Generation {
			s.Releasing = step.released
		}
	}
	all := make(map[string]write)
	names := slices.Sorted(maps.Keys(steps))
	for id, h := range c.known.Hosts {
		if h.Identity == nil && h.Invited == nil {
			continue // what it is to have stays until it comes: its labels are not known
		}
		if h.Desired != nil && h.Desired.Format > fleet.Format {
			continue
		}
		next := fleet.Desired{Format: fleet.Format, Sets: []fleet.DesiredSet{}}
		for _, name := range names {
			if e := c.wanted(id, h, name, steps[name]); e != nil {
				next.Sets = append(next.Sets, *e)
			}
		}
		if h.Desired != nil {
			for _, e := range h.Desired.Sets {
				if c.known.Unread[e.Set] {
					next.Sets = append(next.Sets, e)
				}
			}
		}
		if h.Desired == nil && len(next.Sets) == 0 || h.Desired != nil && equal(*h.Desired, next) {
			continue
		}
		next.Serial = h.Revision + 1
		value := fleet.Encode(next)
		if len(value) > fleet.MaxDesired {
			c.o.Log.WithField("host", id).Errorf("what a host is to have has %d bytes, and at most %d are written; it keeps what it has; make its sets smaller", len(value), fleet.MaxDesired)
			continue
		}
		all[id] = write{next, value, h.Revision}
	}
	return all
}

// wanted returns what a host is to have of a set, nil for nothing. mu is held.
func (c *Controller) wanted(id string, h *known.Host, name string, step rolloutStep) *fleet.DesiredSet {
	s := step.state
	if c.known.Sets[name] == nil || c.known.Sets[name].Generation != s.Generation || !h.Matches(id, name, s) {
		if current := c.known.Sets[name]; current != nil && h.Matches(id, name, current) {
			return h.Entry(name) // it has changed meanwhile: the next time has the new one
		}
		return nil
	}
	now := h.Entry(name)
	e := fleet.DesiredSet{
		Set: name, Generation: s.Generation, Images: s.Images, Protect: *s.Request.Protect, Priority: s.Request.Priority, Window: s.Request.Window, Timezone: s.Request.Timezone,
	}
	switch {
	case step.released[id], now != nil && now.Generation == s.Generation:
	case now != nil:
		return now
	case s.Previous != nil && s.Rollout.State != fleet.RolloutDone:
		e.Generation, e.Images = s.Previous.Generation, s.Previous.Images
	default:
		return nil
	}
	return &e
}

func equal(a, b fleet.Desired) bool {
	return a.Format == b.Format && slices.EqualFunc(a.Sets, b.Sets, func(a, b fleet.DesiredSet) bool {
		return a.Set == b.Set && a.Generation == b.Generation && a.Protect == b.Protect && a.Priority == b.Priority && a.Window == b.Window && a.Timezone == b.Timezone
	})
}

// due returns the sets whose tags are to be resolved again, and has them busy.
func (c *Controller) due() (names []string) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.known.Sets {
		if at := s.Next(now); !s.Busy && !at.IsZero() && !at.After(now) {
			s.Busy = true
			names = append(names, name)
		}
	}
	return names
}

const resolveAgainAfter = 2 * time.Minute // a fault

// resolveAgain resolves the tags of a set by its schedule. Where one has moved, the set gets
// a new generation, which is rolled out.
func (c *Controller) resolveAgain(ctx context.Context, s *session, name string) {
	c.mu.Lock()
	old := c.known.Sets[name]
	c.mu.Unlock()
	if old == nil {
		return
	}
	images, err := c.resolve(ctx, name, old.Request, nil)
	r := *old.Record
	r.Resolved, r.Controller = known.Now(), c.o.Host
	moved := err == nil && fleet.SumOf(images) != old.Sum
	if moved {
		r = *c.succeed(&r, images)
	}
	if err == nil {
		err = c.keep(ctx, s, name, &r, old.Revision)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	current := c.known.Sets[name]
	if current == nil {
		return
	}
	current.Busy = false
	switch {
	case err == nil:
		current.Fault, current.RetryAt = "", time.Time{}
		if moved {
			c.o.Log.WithFields(logrus.Fields{"set": name, "generation": r.Generation}).Info("a tag of a set has moved: the set has a new generation")
		}
	case isConflict(err): // it has changed meanwhile: it is looked at again
	case ctx.Err() == nil:
		if current.Fault == "" {
			c.o.Log.WithField("set", name).WithError(err).Error("the tags of a set can't be resolved again; it stays as it is, and is tried again")
		}
		current.Fault, current.RetryAt = err.Error(), time.Now().Add(max(resolveAgainAfter, puller.RetryAfterOf(err)))
		current.Touched = c.known.Touch()
	}
}

// succeed makes the next generation of a set.
func (c *Controller) succeed(old *known.Record, images []fleet.Image) *known.Record {
	next := *old
	if old.Rollout.State == fleet.RolloutDone {
		next.Previous = &known.Pinned{Generation: old.Generation, Images: old.Images}
	}
	next.Generation, next.Images, next.Key = old.Generation+1, images, newKey()
	next.Rollout = rollout.Record{State: fleet.RolloutRunning}
	next.Controller = c.o.Host
	return &next
}
