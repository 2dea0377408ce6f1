package sets

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/learned"
)

// Learn says how the set of what containers were started from is made.
type Learn struct {
	For      time.Duration // an image stays in it so long after its last container; 0 for no such set
	Schedule string        // of its refreshes, "" for none
}

// openLearned reads what was learned, and makes the set of it.
func (s *Sets) openLearned() (err error) {
	if s.o.Learn.For <= 0 {
		return nil
	}
	s.learned, err = learned.Open(learned.Options{Service: s.o.Service, Engine: s.o.Engine, Records: s.o.Records, For: s.o.Learn.For, Log: s.o.Log})
	if err != nil {
		return err
	}
	return s.makeLearned(s.learned.Names())
}

// learn has the learned set be what is known by now.
func (s *Sets) learn(ctx context.Context) {
	if s.learned == nil {
		return
	}
	s.learned.Learn(ctx)
	all := s.learned.Names()
	if s.hasLearned(all) {
		return
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	if err := s.makeLearned(all); err != nil {
		s.o.Log.WithError(err).Warn("the learned set can't be changed; it is tried again")
	}
}

// hasLearned reports whether the learned set has these images.
func (s *Sets) hasLearned(all []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.EqualFunc(all, s.all[keep.LearnedSet].Images, func(name string, r puller.PullRequest) bool { return name == r.Image })
}

// makeLearned makes the learned set anew, of images by name. Its images are there, so no refresh is due. saving
// is held, or not yet needed.
func (s *Sets) makeLearned(all []string) error {
	r := keep.SetRequest{Schedule: s.o.Learn.Schedule}
	r.Caller = keep.LearnedSet
	for _, name := range all {
		r.Images = append(r.Images, puller.PullRequest{Image: name})
	}
	d, err := s.define(keep.LearnedSet, r)
	if err != nil {
		return fmt.Errorf("keep.learn_schedule: %w", err)
	}
	release, err := s.o.Claims.Need(context.Background(), d.keys())
	if err != nil {
		return err
	}
	defer release()
	old := s.get(keep.LearnedSet)
	if err := s.hasRoom(old, d); err != nil {
		return err
	}
	one := &set{name: keep.LearnedSet, source: keep.SetFromUsage, changed: now(), definition: d, lastRun: now()}
	if runs, err := s.runs(); err == nil && runs[one.name].Job != "" {
		one.lastRun, one.job = runs[one.name].LastRun, runs[one.name].Job
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var was []*image
	if old != nil {
		was, one.lastRun, one.job = old.images, old.lastRun, old.job
	}
	one.images = newImages(d, was)
	one.plan(now())
	s.put(one)
	return nil
}
