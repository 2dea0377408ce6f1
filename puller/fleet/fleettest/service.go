package fleettest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/stream"
)

var _ fleet.Service = (*Fleet)(nil)

// Link implements [fleet.Service].
func (f *Fleet) Link() fleet.Link {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.link
	for _, h := range f.hosts {
		if h.Live {
			l.Hosts++
		}
	}
	return l
}

// PutSet implements [fleet.Service].
func (f *Fleet) PutSet(_ context.Context, name string, r fleet.SetRequest) (fleet.Set, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = r
	if f.fault != nil {
		return fleet.Set{}, f.fault
	}
	if err := fleet.CheckSetName(name); err != nil {
		return fleet.Set{}, err
	}
	if len(r.Images) == 0 {
		return fleet.Set{}, puller.Errorf(puller.ErrInvalidRequest, "images: missing; name the images of the set")
	}
	s := fleet.Set{
		Name: name, Generation: 1, Schedule: r.Schedule, Timezone: r.Timezone, Window: r.Window, Policy: cmp.Or(r.Policy, puller.PolicyNewer),
		Protect: r.Protect == nil || *r.Protect, Priority: cmp.Or(r.Priority, puller.PriorityLow), Hosts: r.Hosts,
		ChangedAt: at, ResolvedAt: at, Caller: r.Caller, Controller: f.link.Host, Skipped: r.Skipped,
		Rollout: fleet.Rollout{State: fleet.RolloutDone, Wave: 1, RolloutRequest: r.Rollout},
	}
	if old := f.sets[name]; old != nil {
		s.Generation = old.Generation + 1
	}
	for i, image := range r.Images {
		full, _, err := puller.ParseImage(image.Image)
		if err != nil {
			return fleet.Set{}, puller.Errorf(puller.ErrInvalidRequest, "images[%d]: %w", i, err)
		}
		s.Images = append(s.Images, fleet.Image{Image: full, Platform: cmp.Or(image.Platform, r.Platform), Digest: Digest(full, s.Generation)})
	}
	for _, id := range slices.Sorted(maps.Keys(f.hosts)) {
		if matches(s.Hosts, f.hosts[id].Labels) {
			s.Members = append(s.Members, f.newMember(id))
		}
	}
	f.sets[name] = &s
	f.count(&s)
	return without(s), nil
}

// set returns a set. The lock is held.
func (f *Fleet) set(name string) (*fleet.Set, error) {
	if f.fault != nil {
		return nil, f.fault
	}
	s := f.sets[name]
	if s == nil {
		return nil, puller.Errorf(puller.ErrNotFound, "there is no set %q in the fleet", puller.Clip(name))
	}
	return s, nil
}

// DeleteSet implements [fleet.Service].
func (f *Fleet) DeleteSet(_ context.Context, name string) (fleet.Set, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.set(name)
	if err != nil {
		return fleet.Set{}, err
	}
	delete(f.sets, name)
	for what := range f.latest {
		if strings.HasPrefix(what, "member "+name+" ") {
			delete(f.latest, what)
		}
	}
	f.publish("set "+name, fleet.Event{Type: fleet.EventRemoved, Name: name})
	return without(*s), nil
}

// Sets implements [fleet.Service].
func (f *Fleet) Sets() (all []fleet.Set, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.sets)) {
		all = append(all, without(*f.sets[name]))
	}
	return all, f.fault
}

// Set implements [fleet.Service].
func (f *Fleet) Set(name string) (fleet.Set, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.set(name)
	if err != nil {
		return fleet.Set{}, err
	}
	whole := without(*s)
	whole.Members = slices.Clone(s.Members)
	return whole, nil
}

// Wait implements [fleet.Service].
func (f *Fleet) Wait(ctx context.Context, name string, generation uint64) (fleet.Set, error) {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		s, err := f.Set(name)
		switch {
		case err != nil:
			return s, err
		case s.Generation != generation:
			return s, puller.Errorf(puller.ErrConflict, "set %s: generation %d has come, not %d", name, s.Generation, generation)
		case len(s.Members) == s.Counts[fleet.StateAway]:
			return s, puller.Errorf(puller.ErrNotFound, "set %s: no member is there", name)
		case s.Rollout.State == fleet.RolloutStopped, s.Counts[fleet.StateWaiting]+s.Counts[fleet.StatePulling] == 0:
			return s, unproven(s)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// unproven names the members that are there and have not proven a set.
func unproven(s fleet.Set) error {
	var words []string
	kind := puller.ErrForbidden
	for _, m := range s.Members {
		if m.State != fleet.StateProven && m.State != fleet.StateAway {
			words = append(words, fmt.Sprintf("%s %s (%s)", m.Host, m.State, cmp.Or(m.Error, "no reason")))
		}
		if m.State == fleet.StateFailed {
			kind = m.Kind
		}
	}
	if len(words) == 0 {
		return nil
	}
	return puller.Errorf(kind, "set %s: %d of %d hosts have not proven it: %s", s.Name, len(words), len(s.Members), strings.Join(words, ", "))
}

// ChangeRollout implements [fleet.Service].
func (f *Fleet) ChangeRollout(_ context.Context, name string, action fleet.RolloutAction) (fleet.Set, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.set(name)
	if err != nil {
		return fleet.Set{}, err
	}
	s.Rollout.Reason = ""
	s.Rollout.State = map[fleet.RolloutAction]fleet.RolloutState{
		fleet.ActionPause: fleet.RolloutPaused, fleet.ActionResume: fleet.RolloutRunning, fleet.ActionCancel: fleet.RolloutCanceled,
	}[action]
	f.count(s)
	return without(*s), nil
}

// SetRollout has the rollout of a set stand otherwise.
func (f *Fleet) SetRollout(name string, change func(*fleet.Rollout)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[name]
	f.count(s)
	change(&s.Rollout)
	f.publish("set "+name, fleet.Event{Type: fleet.EventSet, Set: new(without(*s))})
}

// Hosts implements [fleet.Service].
func (f *Fleet) Hosts() (all []fleet.Host, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(f.hosts)) {
		all = append(all, f.host(id))
	}
	return all, f.fault
}

// Invite implements [fleet.Service].
func (f *Fleet) Invite(_ context.Context, r fleet.InviteRequest) (fleet.Invitation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.invited = r
	if f.fault != nil {
		return fleet.Invitation{}, f.fault
	}
	if err := fleet.CheckHost(r.Host); err != nil {
		return fleet.Invitation{}, err
	}
	if err := fleet.CheckLabels("labels", r.Labels); err != nil {
		return fleet.Invitation{}, err
	}
	if err := fleet.CheckZone(r.Zone); err != nil {
		return fleet.Invitation{}, err
	}
	return fleet.Invitation{Fleet: f.link.Fleet, Host: r.Host, Labels: r.Labels, Zone: r.Zone, URL: "tls://127.0.0.1:4222", Creds: "-----BEGIN NATS USER JWT-----\nsecret\n"}, nil
}

// RemoveHost implements [fleet.Service].
func (f *Fleet) RemoveHost(_ context.Context, id string) (fleet.Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.fault != nil:
		return fleet.Host{}, f.fault
	case f.hosts[id] == nil:
		return fleet.Host{}, puller.Errorf(puller.ErrNotFound, "there is no host %q in the fleet", puller.Clip(id))
	case f.hosts[id].Live && !f.hosts[id].Invited:
		return fleet.Host{}, puller.Errorf(puller.ErrConflict, "host %s is live", id)
	}
	h := f.host(id)
	delete(f.hosts, id)
	for _, s := range f.sets {
		if i, is := f.member(s, id); is {
			s.Members = slices.Delete(s.Members, i, i+1)
			f.count(s)
		}
	}
	f.publish("host "+id, fleet.Event{Type: fleet.EventRemoved, Host: &fleet.Host{ID: id, Labels: map[string]string{}, Counts: map[fleet.State]int{}}})
	return h, nil
}

// Watch implements [fleet.Service].
func (f *Fleet) Watch(name string) (frames []stream.Frame, _ fleet.Reader, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add := func(e fleet.Event) {
		e.Time = time.Now().UTC()
		frames = append(frames, e.Frame())
	}
	if name == "" {
		add(fleet.Event{Type: fleet.EventLink, Link: new(f.link)})
		for _, name := range slices.Sorted(maps.Keys(f.sets)) {
			add(fleet.Event{Type: fleet.EventSet, Set: new(without(*f.sets[name]))})
		}
		return frames, &reader{f, name, f.version}, f.fault
	}
	s, err := f.set(name)
	if err != nil {
		return nil, nil, err
	}
	add(fleet.Event{Type: fleet.EventSet, Set: new(without(*s))})
	for _, m := range s.Members {
		add(fleet.Event{Type: fleet.EventMember, Name: name, Generation: s.Generation, Member: &m})
	}
	return frames, &reader{f, name, f.version}, nil
}
