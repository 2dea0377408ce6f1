package sets

import (
	"context"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/definition"
)

// PutSet implements keep.Service.
func (s *Sets) PutSet(name string, r keep.SetRequest) (keep.Set, error) {
	if err := keep.CheckSetName(name); err != nil {
		return keep.Set{}, err
	}
	if err := keep.CheckNotOfFleet(name); err != nil {
		return keep.Set{}, err
	}
	if err := s.accept(name, keep.SetFromAPI, r, nil); err != nil {
		return keep.Set{}, err
	}
	s.o.Log.WithFields(logrus.Fields{"set": name, "caller": r.Caller, "images": len(r.Images)}).Info("a call has made a set")
	s.wake.nudge()
	return s.Set(name)
}

// accept checks a set, keeps it, and begins its refresh if its window is open.
func (s *Sets) accept(name string, source keep.SetSource, r keep.SetRequest, tags map[string]string) error {
	d, err := definition.Check(s.o.Service, s.o.Host, name, r)
	if err != nil {
		return err
	}
	release, err := s.o.Claims.Need(context.Background(), d.Keys())
	if err != nil {
		return err
	}
	defer release()
	s.table.saving.Lock()
	defer s.table.saving.Unlock()
	old := s.table.get(name)
	if err := mayChange(old, source); err != nil {
		return err
	}
	if err := s.table.hasRoom(old, d); err != nil {
		return err
	}
	one := &set{name: name, source: source, tags: tags, changed: now(), Definition: d}
	if err := saveSet(s.o.Records, one); err != nil {
		return err
	}
	s.table.succeed(one, old)
	if !one.due.After(now()) {
		s.refreshes.begin(one) // the set says why it has not begun
	}
	return nil
}

// mayChange returns why sets of a source can't replace a set, nil for none.
func mayChange(one *set, source keep.SetSource) error {
	if one == nil || one.source == source {
		return nil
	}
	where := "its file is " + one.file
	switch one.source {
	case keep.SetFromUsage:
		where = "Towline makes it itself (keep.learn)"
	case keep.SetFromFleet:
		where = "the fleet has it; change it there"
	case keep.SetFromAPI:
		where = "a call has made it"
	}
	return puller.Errorf(puller.ErrConflict, "the set %s can't be changed by a call: %s", one.name, where)
}

// DeleteSet implements keep.Service.
func (s *Sets) DeleteSet(name string) (keep.Set, error) {
	v, err := s.remove(name, keep.SetFromAPI)
	if err == nil {
		s.o.Log.WithField("set", name).Info("a call has deleted a set; its images stay")
	}
	return v, err
}

// PutOfFleet makes or replaces a set that the fleet has, as PutSet does for calls. The images
// of its refreshes are held to the rules of the daemon alone. tags has the digests at which the
// fleet keeps names, by REPOSITORY:TAG: no other set has them moved.
func (s *Sets) PutOfFleet(name string, r keep.SetRequest, tags map[string]string) error {
	if !strings.HasPrefix(name, keep.FleetPrefix) {
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q does not begin with %s", puller.Clip(name), keep.FleetPrefix)
	}
	if err := keep.CheckSetName(name); err != nil {
		return err
	}
	if err := s.accept(name, keep.SetFromFleet, r, tags); err != nil {
		return err
	}
	s.wake.nudge()
	return nil
}

// DeleteOfFleet forgets a set that the fleet had. Its images stay. The error is ErrNotFound,
// or ErrConflict if the fleet did not make it.
func (s *Sets) DeleteOfFleet(name string) error {
	_, err := s.remove(name, keep.SetFromFleet)
	return err
}

// remove forgets a set of a source, and returns it as it stood.
func (s *Sets) remove(name string, source keep.SetSource) (keep.Set, error) {
	s.table.saving.Lock()
	defer s.table.saving.Unlock()
	old := s.table.get(name)
	if old == nil {
		return keep.Set{}, errNoSet(name)
	}
	if err := mayChange(old, source); err != nil {
		return keep.Set{}, err
	}
	v, err := s.Set(name)
	if err != nil {
		return v, err
	}
	if err := s.o.Records.Delete(setKind, []string{name}); err != nil {
		return v, err
	}
	s.refreshes.runs.forget(name)
	s.table.remove(name)
	return v, nil
}

// RefreshSet implements keep.Service.
func (s *Sets) RefreshSet(name string) (puller.Job, error) {
	s.table.saving.Lock()
	defer s.table.saving.Unlock()
	one := s.table.get(name)
	if one == nil {
		return puller.Job{}, errNoSet(name)
	}
	return s.refreshes.begin(one)
}
