package control

import (
	"context"
	"crypto/rand"

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

func errNoSet(name string) error {
	return puller.Errorf(puller.ErrNotFound, "the fleet has no set %q", puller.Clip(name))
}

// PutSet implements fleet.Service.
func (c *Controller) PutSet(ctx context.Context, name string, r fleet.SetRequest) (fleet.Set, error) {
	if err := fleet.CheckSetName(name); err != nil {
		return fleet.Set{}, err
	}
	r, skipped, caller, err := check(r, c.o.Check)
	if err != nil {
		return fleet.Set{}, err
	}
	s, err := c.ready()
	if err != nil {
		return fleet.Set{}, err
	}
	old, revision, err := s.read(ctx, name)
	if err != nil {
		return fleet.Set{}, err
	}
	var pinned []fleet.Image
	if old != nil && r.Policy == puller.PolicyMissing {
		pinned = old.Images
	}
	images, err := pins.Resolve(ctx, c.o.Registry, r.Images, pinned, c.state.platforms(name, r))
	if err != nil {
		return fleet.Set{}, err
	}
	next := &known.Record{Format: fleet.Format, Images: images, Key: newKey(), Rollout: rollout.Record{State: fleet.RolloutRunning}, Controller: c.o.Host}
	if old != nil {
		next = succeed(old, images, c.o.Host)
	} else {
		// A host may still have an older generation of a set of this name that was deleted.
		next.Generation = revision + 1
	}
	next.Request, next.Skipped, next.Caller, next.Changed, next.Resolved = r, skipped, caller, known.Now(), known.Now()
	if n := len(fleet.Encode(next)); n > maxRecord {
		return fleet.Set{}, puller.Errorf(puller.ErrInvalidRequest, "images: the set has %d bytes with its digests, and at most %d are kept; make two of it", n, maxRecord)
	}
	c.state.mu.Lock()
	err = c.state.known.Room(name, r, images)
	c.state.mu.Unlock()
	if err != nil {
		return fleet.Set{}, err
	}
	for {
		err := s.keep(ctx, name, next, revision)
		if err == nil {
			break
		}
		if !isConflict(err) {
			return fleet.Set{}, s.unavailable("the set could not be kept", err)
		}
		// A rollout may have gone on meanwhile. Another call must not be lost.
		current, at, err := s.read(ctx, name)
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

// check checks a request, also as a prewarm, and fills in its defaults. The error is
// ErrInvalidRequest or ErrForbidden.
func check(r fleet.SetRequest, prewarm func(puller.PrewarmRequest) (puller.PrewarmRequest, error)) (fleet.SetRequest, []puller.Skipped, string, error) {
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
	checked, err := prewarm(wanted)
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

// succeed makes the next generation of a set, for a controller.
func succeed(old *known.Record, images []fleet.Image, controller string) *known.Record {
	next := *old
	if old.Rollout.State == fleet.RolloutDone {
		next.Previous = &known.Pinned{Generation: old.Generation, Images: old.Images}
	}
	next.Generation, next.Images, next.Key = old.Generation+1, images, newKey()
	next.Rollout = rollout.Record{State: fleet.RolloutRunning}
	next.Controller = controller
	return &next
}

func newKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
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
		_, revision, err := s.read(ctx, name)
		if err != nil {
			return fleet.Set{}, err
		}
		if err = s.sets.Delete(limit, name, jetstream.LastRevision(revision)); err == nil {
			break
		} else if !isConflict(err) {
			return fleet.Set{}, s.unavailable("the set could not be deleted", err)
		}
	}
	_, revision, err := s.read(ctx, name)
	if err != nil {
		return fleet.Set{}, err
	}
	c.state.mu.Lock()
	c.state.known.PutSet(name, nil, revision)
	c.state.nudge()
	c.state.mu.Unlock()
	return was, nil
}

// ChangeRollout implements fleet.Service.
func (c *Controller) ChangeRollout(ctx context.Context, name string, action fleet.RolloutAction) (fleet.Set, error) {
	s, err := c.ready()
	if err != nil {
		return fleet.Set{}, err
	}
	for {
		r, revision, err := s.read(ctx, name)
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
		c.state.mu.Lock()
		members := c.state.known.Progress(name, state)
		c.state.mu.Unlock()
		next := *r
		if next.Rollout, err = r.Rollout.Change(state.Pace, members, action, ""); err != nil {
			return fleet.Set{}, err
		}
		if err = s.keep(ctx, name, &next, revision); err == nil {
			return c.Set(name)
		} else if !isConflict(err) {
			return fleet.Set{}, s.unavailable("the rollout could not be changed", err)
		}
	}
}
