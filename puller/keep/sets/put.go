package sets

import (
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// PutSet implements keep.Service.
func (s *Sets) PutSet(name string, r keep.SetRequest) (keep.Set, error) {
	if err := keep.CheckSetName(name); err != nil {
		return keep.Set{}, err
	}
	d, err := s.check(name, r)
	if err != nil {
		return keep.Set{}, err
	}
	if err := s.replace(name, d); err != nil {
		return keep.Set{}, err
	}
	s.o.Log.WithFields(logrus.Fields{"set": name, "caller": r.Caller, "images": len(d.Images)}).Info("a call has made a set")
	s.nudge()
	return s.Set(name)
}

// replace keeps a set that a call has made, and begins its refresh if its window is open.
func (s *Sets) replace(name string, d *definition) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	old := s.get(name)
	if err := s.mayChange(old); err != nil {
		return err
	}
	if err := s.hasRoom(old, d); err != nil {
		return err
	}
	one := &set{name: name, source: keep.SetFromAPI, changed: now(), definition: d}
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

// mayChange returns why calls can't change a set, nil for none.
func (s *Sets) mayChange(one *set) error {
	if one == nil || one.source == keep.SetFromAPI {
		return nil
	}
	where := "its file is " + one.file
	if one.source == keep.SetFromUsage {
		where = "Towline makes it itself (keep.learn)"
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
	s.saving.Lock()
	defer s.saving.Unlock()
	old := s.get(name)
	if old == nil {
		return keep.Set{}, errNoSet(name)
	}
	if err := s.mayChange(old); err != nil {
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
	s.o.Log.WithField("set", name).Info("a call has deleted a set; its images stay")
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
