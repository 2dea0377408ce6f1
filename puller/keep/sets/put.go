package sets

import (
	"context"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// PutSet implements keep.Service.
func (s *Sets) PutSet(name string, r keep.SetRequest) (keep.Set, error) {
	if err := keep.CheckSetName(name); err != nil {
		return keep.Set{}, err
	}
	if err := notOfFleet(name); err != nil {
		return keep.Set{}, err
	}
	if err := s.accept(name, keep.SetFromAPI, r); err != nil {
		return keep.Set{}, err
	}
	s.o.Log.WithFields(logrus.Fields{"set": name, "caller": r.Caller, "images": len(r.Images)}).Info("a call has made a set")
	s.nudge()
	return s.Set(name)
}

// notOfFleet returns why a call or a file can't have a name that is for the fleet's sets.
func notOfFleet(name string) error {
	if strings.HasPrefix(name, keep.FleetPrefix) {
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q begins with %s, which is for the sets of a fleet; take another one", puller.Clip(name), keep.FleetPrefix)
	}
	return nil
}

// accept checks a set, keeps it, and begins its refresh if its window is open.
func (s *Sets) accept(name string, source keep.SetSource, r keep.SetRequest) error {
	d, err := s.check(name, r)
	if err != nil {
		return err
	}
	release, err := s.o.Claims.Need(context.Background(), d.keys())
	if err != nil {
		return err
	}
	defer release()
	s.saving.Lock()
	defer s.saving.Unlock()
	old := s.get(name)
	if err := mayChange(old, source); err != nil {
		return err
	}
	if err := s.hasRoom(old, d); err != nil {
		return err
	}
	one := &set{name: name, source: source, changed: now(), definition: d}
	if err := s.save(one); err != nil {
		return err
	}
	s.mu.Lock()
	s.succeed(one, old)
	s.mu.Unlock()
	if !one.due.After(now()) {
		s.refresh(one) // the set says why it has not begun
	}
	return nil
}

// succeed puts a set in the place of an older one. mu is held.
func (s *Sets) succeed(one, old *set) {
	var was []*image
	if old != nil {
		was = old.images
		one.lastRun = old.lastRun
	}
	one.images = newImages(one.definition, was)
	one.due = one.when.Open(now())
	s.put(one)
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

// hasRoom returns ErrOverloaded where there are as many sets, or images in them, as may be.
func (s *Sets) hasRoom(old *set, d *definition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, images := len(s.all), s.images
	if old != nil {
		n, images = n-1, images-len(old.images)
	}
	switch {
	case n >= keep.MaxSets:
		return puller.Overloaded("there are %d sets, and at most %d are kept: delete some", n, keep.MaxSets)
	case images+len(d.Images) > keep.MaxSetImages:
		return puller.Overloaded("the other sets have %d images, and this one has %d: together they may have at most %d; delete some", images, len(d.Images), keep.MaxSetImages)
	}
	return nil
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
// of its refreshes are held to the rules of the daemon alone.
func (s *Sets) PutOfFleet(name string, r keep.SetRequest) error {
	if !strings.HasPrefix(name, keep.FleetPrefix) {
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q does not begin with %s", puller.Clip(name), keep.FleetPrefix)
	}
	if err := keep.CheckSetName(name); err != nil {
		return err
	}
	if err := s.accept(name, keep.SetFromFleet, r); err != nil {
		return err
	}
	s.nudge()
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
	s.saving.Lock()
	defer s.saving.Unlock()
	old := s.get(name)
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
	s.forget(name)
	return v, nil
}

// forget drops a set whose definition is gone. saving is held.
func (s *Sets) forget(name string) {
	if err := s.o.Records.Delete(runKind, []string{name}); err != nil {
		s.o.Log.WithError(err).WithField("set", name).Warn("the last refresh of a set that was deleted is still kept")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(name)
}
