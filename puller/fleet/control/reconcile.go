package control

import (
	"context"
	"errors"
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

// keepRollout keeps how far a rollout is, before anything follows from it.
func (c *Controller) keepRollout(ctx context.Context, s *session, name string, step known.Step) bool {
	r := *step.Set.Record
	r.Rollout = step.Next
	if err := c.keep(ctx, s, name, &r, step.Set.Revision); err != nil {
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
