package sets

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

// Learn says how the set of what containers were started from is made.
type Learn struct {
	For      time.Duration // an image stays in it so long after its last container; 0 for no such set
	Schedule string        // of its refreshes, "" for none
}

const (
	learnedKind = "set-learned" // has one record, of that key:
	learnedKey  = "images"
	maxLearned  = 500              // images; those that were used last stay
	maxHeard    = 2 * maxLearned   // names that wait to be looked at
	hearAgain   = 5 * time.Second  // after the engine's events have ended
	saveTimes   = 10 * time.Minute // at least so long between two writes for the times alone
)

// learned is what containers were started from. Sets.mu guards it.
type learned struct {
	heard  map[string]time.Time // since the last look, by full name
	images map[string]time.Time // that are in the set, with their last use
	saved  time.Time
}

// openLearned reads what was learned, and makes the set of it.
func (s *Sets) openLearned() error {
	if s.o.Learn.For <= 0 {
		return nil
	}
	s.learned = learned{heard: make(map[string]time.Time), images: make(map[string]time.Time)}
	values, err := s.o.Records.Load(learnedKind)
	if err != nil {
		return err
	}
	if value := values[learnedKey]; value != nil {
		if err := json.Unmarshal(value, &s.learned.images); err != nil {
			return fmt.Errorf("what was learned: %w", err)
		}
	}
	return s.makeLearned()
}

// hear follows the engine's containers until ctx ends.
func (s *Sets) hear(ctx context.Context) {
	for ctx.Err() == nil {
		s.o.Engine.Events(ctx, time.Time{}, func(e puller.EngineEvent) {
			switch {
			case e.Type == puller.EngineConnected:
				s.scan(ctx)
			case e.Type == puller.EngineContainer && e.Action == "start":
				s.note(e.Image, now())
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(hearAgain):
		}
	}
}

// scan notes what the containers that there are were made from.
func (s *Sets) scan(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	all, err := s.o.Engine.AllContainers(ctx)
	if err != nil {
		s.o.Log.WithError(err).Warn("the engine does not list its containers; the learned set has only those that start from now on")
		return
	}
	for _, c := range all {
		switch {
		case c.Running:
			s.note(c.Image, now())
		case c.Started:
			s.note(c.Image, c.Created)
		}
	}
}

// note keeps that a container of an image was started. An ID is none that can be pulled.
func (s *Sets) note(image string, at time.Time) {
	full, named, err := puller.ParseImage(image)
	if err != nil || named == nil || at.After(now()) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.learned.heard[full]; (ok || len(s.learned.heard) < maxHeard) && at.After(known) {
		s.learned.heard[full] = at
	}
}

// learn takes up what was heard, and forgets what was not used for too long.
func (s *Sets) learn(ctx context.Context) {
	if s.o.Learn.For <= 0 {
		return
	}
	s.mu.Lock()
	heard := s.learned.heard
	s.learned.heard = make(map[string]time.Time)
	images := maps.Clone(s.learned.images)
	s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(heard)) {
		if _, known := images[name]; known || s.comesFromRegistry(ctx, name) {
			images[name] = later(images[name], heard[name])
		}
	}
	oldest := now().Add(-s.o.Learn.For)
	maps.DeleteFunc(images, func(_ string, at time.Time) bool { return at.Before(oldest) })
	byUse := slices.SortedFunc(maps.Keys(images), func(a, b string) int { return images[b].Compare(images[a]) })
	for _, name := range byUse[min(len(byUse), maxLearned):] {
		delete(images, name)
	}
	s.mu.Lock()
	same := slices.Equal(slices.Sorted(maps.Keys(images)), slices.Sorted(maps.Keys(s.learned.images)))
	due := !maps.EqualFunc(images, s.learned.images, time.Time.Equal) && time.Since(s.learned.saved) >= saveTimes
	s.learned.images = images
	s.mu.Unlock()
	if same && !due {
		return
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	value, err := json.Marshal(images)
	if err == nil {
		err = s.o.Records.Save(learnedKind, map[string][]byte{learnedKey: value})
	}
	if err == nil && !same {
		err = s.makeLearned()
	}
	if err != nil {
		s.o.Log.WithError(err).Warn("the learned set could not be kept")
	}
	s.mu.Lock()
	s.learned.saved = time.Now()
	s.mu.Unlock()
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// comesFromRegistry reports whether an image is there and has a digest of its registry: one
// that was only built here can't be pulled.
func (s *Sets) comesFromRegistry(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	here, err := s.o.Service.Image(ctx, name, "", nil)
	return err == nil && len(here.Digests(names.ParseName(name).Repository)) > 0
}

// makeLearned makes the learned set anew. Its images are there, so no refresh is due. saving
// is held, or not yet needed.
func (s *Sets) makeLearned() error {
	r := keep.SetRequest{Schedule: s.o.Learn.Schedule}
	r.Caller = keep.LearnedSet
	s.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(s.learned.images)) {
		r.Images = append(r.Images, puller.PullRequest{Image: name})
	}
	s.mu.Unlock()
	d, err := s.define(keep.LearnedSet, r)
	if err != nil {
		return fmt.Errorf("keep.learn_schedule: %w", err)
	}
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
