package control

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
	"github.com/towline/towline/puller/fleet/pins"
	"github.com/towline/towline/puller/fleet/rollout"
	"github.com/towline/towline/puller/keep/schedule"
	"github.com/towline/towline/puller/names"
)

// maxRecord is how many bytes a set may have as it is kept, with what hosts are to have of it.
const maxRecord = fleet.MaxDesired

func newKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

// resolve pins the images of a set. Those of old stay as they are.
func (c *Controller) resolve(ctx context.Context, name string, r fleet.SetRequest, old []fleet.Image) ([]fleet.Image, error) {
	c.mu.Lock()
	platforms := c.known.Platforms(name, r)
	c.mu.Unlock()
	return pins.Resolve(ctx, c.o.Registry, r.Images, old, platforms)
}

func errNoSet(name string) error {
	return puller.Errorf(puller.ErrNotFound, "the fleet has no set %q", puller.Clip(name))
}

// PutSet implements fleet.Service.
func (c *Controller) PutSet(ctx context.Context, name string, r fleet.SetRequest) (fleet.Set, error) {
	if err := fleet.CheckSetName(name); err != nil {
		return fleet.Set{}, err
	}
	r, skipped, caller, err := c.check(r)
	if err != nil {
		return fleet.Set{}, err
	}
	s, err := c.ready()
	if err != nil {
		return fleet.Set{}, err
	}
	old, revision, err := c.before(ctx, s, name)
	if err != nil {
		return fleet.Set{}, err
	}
	var pinned []fleet.Image
	if old != nil && r.Policy == puller.PolicyMissing {
		pinned = old.Images
	}
	images, err := c.resolve(ctx, name, r, pinned)
	if err != nil {
		return fleet.Set{}, err
	}
	next := &known.Record{Format: fleet.Format, Images: images, Key: newKey(), Rollout: rollout.Record{State: fleet.RolloutRunning}, Controller: c.o.Host}
	if old != nil {
		next = c.succeed(old, images)
	} else {
		// A host may still have an older generation of a set of this name that was deleted.
		next.Generation = revision + 1
	}
	next.Request, next.Skipped, next.Caller, next.Changed, next.Resolved = r, skipped, caller, known.Now(), known.Now()
	if n := len(fleet.Encode(next)); n > maxRecord {
		return fleet.Set{}, puller.Errorf(puller.ErrInvalidRequest, "images: the set has %d bytes with its digests, and at most %d are kept; make two of it", n, maxRecord)
	}
	c.mu.Lock()
	err = c.known.Room(name, r, images)
	c.mu.Unlock()
	if err != nil {
		return fleet.Set{}, err
	}
	for {
		err := c.keep(ctx, s, name, next, revision)
		if err == nil {
			break
		}
		if !isConflict(err) {
			return fleet.Set{}, c.unavailable("the set could not be kept", err)
		}
		// A rollout may have gone on meanwhile. Another call must not be lost.
		current, at, err := c.before(ctx, s, name)
		if err != nil {
			return fleet.Set{}, err
		}
		if (current == nil) != (old == nil) || current == nil || current.Generation != old.Generation || at == revision {
			return fleet.Set{}, puller.Errorf(puller.ErrConflict, "the set %s was changed by another call while this one resolved its tags; look at it, and put it again if it is still what you want", name)
		}
		revision = at
	}
	return c.Set(name)
}

// unavailable is the error of a call to NATS. One whose disk is full answers nothing.
func (c *Controller) unavailable(what string, err error) error {
	switch l := c.o.Link.Link(); {
	case l.State != fleet.LinkUp:
		return puller.Overloaded("%s, because NATS does not answer: %s", what, l.Reason)
	case errors.Is(err, context.DeadlineExceeded):
		return puller.Overloaded("%s: NATS is connected, but JetStream has not answered within %s: its disk may be full, or too few of its servers are there; its log says which", what, callLimit)
	}
	return puller.Overloaded("%s: NATS says: %w", what, err)
}

// before reads a set as it is kept now, nil for none, with its revision: that of its
// deletion, if it was deleted.
func (c *Controller) before(ctx context.Context, s *session, name string) (*known.Record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	all, err := s.sets.History(ctx, name) // with the deletion, which Get does not have
	switch {
	case isMissing(err), err == nil && len(all) == 0:
		return nil, 0, nil
	case err != nil:
		return nil, 0, c.unavailable("the set can't be read", err)
	}
	last := all[len(all)-1]
	if gone(last) {
		return nil, last.Revision(), nil
	}
	state, err := known.ReadSet(c.o.Fleet, name, last.Value())
	var format fleet.ErrFormat
	switch {
	case errors.As(err, &format):
		return nil, 0, puller.Errorf(puller.ErrConflict, "the set %s was put by a later Towline: %w", name, err)
	case err != nil:
		// What can't be read is replaced.
		return nil, last.Revision(), nil
	}
	return state.Record, last.Revision(), nil
}

// check checks a request and fills in its defaults. The error is ErrInvalidRequest or
// ErrForbidden.
func (c *Controller) check(r fleet.SetRequest) (fleet.SetRequest, []puller.Skipped, string, error) {
	refuse := func(err error) (fleet.SetRequest, []puller.Skipped, string, error) { return r, nil, "", err }
	if _, err := schedule.New(schedule.Request{Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter, Window: r.Window}); err != nil {
		return refuse(err)
	}
	if _, err := rollout.ParsePace(r.Rollout); err != nil {
		return refuse(err)
	}
	if err := fleet.CheckSelector(r.Hosts); err != nil {
		return refuse(err)
	}
	switch r.Policy {
	case "":
		r.Policy = puller.PolicyNewer
	case puller.PolicyNewer:
	case puller.PolicyMissing:
		if r.Schedule != "" {
			return refuse(puller.Errorf(puller.ErrInvalidRequest, "schedule: with policy missing, tags that are pinned are not resolved again; leave one of the two out"))
		}
	default:
		return refuse(puller.Errorf(puller.ErrInvalidRequest, "policy: %q is not one of a set; use newer or missing", puller.Clip(string(r.Policy))))
	}
	if r.Priority == "" {
		r.Priority = puller.PriorityLow
	}
	if r.Protect == nil {
		r.Protect = new(true)
	}
	var faults puller.ImageFaults
	for i, one := range r.Images {
		switch {
		case names.ParseName(one.Image).ID != "":
			faults.Add(i, puller.Errorf(puller.ErrInvalidRequest, "image: %s is an ID, which no registry knows, so other hosts can't pull it", one.Image))
		case one.Policy != "" || one.Priority != "" || one.Timeout != 0 || one.Retries != nil || one.Strict || one.Accelerate != "" || one.Lease != "":
			faults.Add(i, puller.Errorf(puller.ErrInvalidRequest, "an image of a fleet has the fields image and platform only; leave the others out"))
		}
	}
	if err := faults.Err(); err != nil {
		return refuse(err)
	}
	wanted := puller.PrewarmRequest{Images: r.Images, Priority: r.Priority, Platform: r.Platform}
	wanted.Skipped, wanted.Caller, wanted.Rules = r.Skipped, r.Caller, r.Rules
	checked, err := c.o.Check(wanted)
	if err != nil {
		return refuse(err)
	}
	if len(checked.Images) == 0 {
		return refuse(puller.Errorf(puller.ErrInvalidRequest, "images: all services are skipped, and a set needs an image"))
	}
	seen := make(map[[2]string]bool)
	images := puller.Images{}
	for i, one := range r.Images {
		// The platform that this host has is not that of the others.
		kept := puller.PullRequest{Image: checked.Images[i].Image}
		if one.Platform != "" || r.Platform != "" {
			kept.Platform = checked.Images[i].Platform
		}
		if key := [2]string{kept.Image, kept.Platform}; !seen[key] {
			seen[key] = true
			images = append(images, kept)
		}
	}
	skipped, caller := r.Skipped, r.Caller
	r.Images, r.Platform, r.Skipped, r.Caller, r.Rules = images, "", nil, "", nil
	return r, skipped, caller, nil
}

// DeleteSet implements fleet.Service.
func (c *Controller) DeleteSet(ctx context.Context, name string) (fleet.Set, error) {
	if err := fleet.CheckSetName(name); err != nil {
		return fleet.Set{}, err
	}
	s, err := c.ready()
	if err != nil {
		return fleet.Set{}, err
	}
	was, err := c.Set(name)
	if err != nil {
		return fleet.Set{}, err
	}
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	for {
		_, revision, err := c.before(ctx, s, name)
		if err != nil {
			return fleet.Set{}, err
		}
		if err = s.sets.Delete(limit, name, jetstream.LastRevision(revision)); err == nil {
			break
		} else if !isConflict(err) {
			return fleet.Set{}, c.unavailable("the set could not be deleted", err)
		}
	}
	_, revision, err := c.before(ctx, s, name)
	if err != nil {
		return fleet.Set{}, err
	}
	c.mu.Lock()
	c.known.PutSet(name, nil, revision)
	c.nudge()
	c.mu.Unlock()
	return was, nil
}

// ChangeRollout implements fleet.Service.
func (c *Controller) ChangeRollout(ctx context.Context, name string, action fleet.RolloutAction) (fleet.Set, error) {
	s, err := c.ready()
	if err != nil {
		return fleet.Set{}, err
	}
	for {
		r, revision, err := c.before(ctx, s, name)
		if err != nil {
			return fleet.Set{}, err
		}
		if r == nil {
			return fleet.Set{}, errNoSet(name)
		}
		state, err := known.NewSet(c.o.Fleet, name, r)
		if err != nil {
			return fleet.Set{}, err
		}
		c.mu.Lock()
		members := c.known.Progress(name, state)
		c.mu.Unlock()
		next := *r
		if next.Rollout, err = r.Rollout.Change(state.Pace, members, action, ""); err != nil {
			return fleet.Set{}, err
		}
		if err = c.keep(ctx, s, name, &next, revision); err == nil {
			return c.Set(name)
		} else if !isConflict(err) {
			return fleet.Set{}, c.unavailable("the rollout could not be changed", err)
		}
	}
}
