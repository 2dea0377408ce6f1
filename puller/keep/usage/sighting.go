package usage

import (
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/names"
)

// sightings are what was told since the last list of images. Events name images and
// containers in ways that only a list can resolve.
type sightings struct {
	containers map[string]sighting    // by ID
	names      map[string][]time.Time // pulls by other clients and by jobs, by name, in order
	images     map[string]time.Time
	foreign    map[string]time.Time // when an image was first seen to come by another way than a pull
	deleted    map[string]time.Time // when an image was last removed
	results    []result
	stale      bool // the images are no longer those of the last list
}

// sighting is when a container was last seen.
type sighting struct {
	last  time.Time
	image string
}

// result is a job that has pulled an image.
type result struct {
	id, name        string
	pulled          bool // else it found what an attempt before it had pulled, or somebody else
	began, finished time.Time
	known           bool // all images and events were known since it began, by an earlier process
}

// maxSightings bounds each of the sightings. What is beyond it is lost: a use is noted too
// early, and an image is called somebody else's.
const maxSightings = 20_000

// maxPulls is how many pulls of one name are kept: of more, the first ones and the last.
const maxPulls = 20

func newSightings() sightings {
	return sightings{containers: make(map[string]sighting), names: make(map[string][]time.Time), images: make(map[string]time.Time), foreign: make(map[string]time.Time), deleted: make(map[string]time.Time)}
}

// empty reports whether a list would change nothing.
func (s *sightings) empty() bool {
	return len(s.containers)+len(s.names)+len(s.images)+len(s.results) == 0 && !s.stale
}

// add adds what others have.
func (s *sightings) add(o *sightings) {
	for id, v := range o.containers {
		s.container(id, v.image, v.last)
	}
	for name, times := range o.names {
		for _, at := range times {
			s.pull(name, at)
		}
	}
	for id, at := range o.images {
		if at.After(s.images[id]) {
			s.images[id] = at
		}
	}
	for id, at := range o.foreign {
		if first, known := s.foreign[id]; !known || at.Before(first) {
			s.foreign[id] = at
		}
	}
	for id, at := range o.deleted {
		if at.After(s.deleted[id]) {
			s.deleted[id] = at
		}
	}
	s.results = append(s.results, o.results...)
	s.stale = s.stale || o.stale
}

// container notes that a container was seen.
func (s *sightings) container(id, image string, at time.Time) {
	v, known := s.containers[id]
	if !known && len(s.containers) >= maxSightings {
		return
	}
	if !known {
		v.image = image
	}
	if at.After(v.last) {
		v.last = at
	}
	s.containers[id] = v
}

// pull notes that a name was pulled.
func (s *sightings) pull(name string, at time.Time) {
	times := s.names[name]
	i, known := slices.BinarySearchFunc(times, at, time.Time.Compare)
	switch {
	case known, len(times) == 0 && len(s.names) >= maxSightings:
		return
	case len(times) >= maxPulls:
		times = slices.Clone(times[:maxPulls-1])
		i = min(i, len(times))
	}
	s.names[name] = slices.Insert(slices.Clip(times), i, at)
}

// event notes an engine's event. An engine's clock may be ahead of this one.
func (s *sightings) event(v engines.Event) {
	if now := time.Now(); v.Time.After(now) {
		v.Time = now
	}
	switch v.Type {
	case engines.EventContainer:
		switch v.Action {
		case "create", "start", "die", "restart", "unpause":
			s.container(v.ID, v.Image, v.Time)
		}
	case engines.EventImage:
		s.stale = true
		switch v.Action {
		case "pull":
			s.pull(fullName(v.ID), v.Time)
		case "delete":
			delete(s.foreign, v.ID) // it is gone, however it came
			if len(s.deleted) < maxSightings {
				s.deleted[v.ID] = v.Time
			}
		case "untag", "prune":
		default: // load, import, tag, or what an engine adds
			if _, known := s.foreign[v.ID]; !known && len(s.foreign) < maxSightings {
				s.foreign[v.ID] = v.Time
			}
		}
	}
}

// job notes a job that has ended.
func (s *sightings) job(j *puller.Job) {
	r := j.Result
	if r == nil || r.ImageID == "" || len(s.images) >= maxSightings {
		return
	}
	s.images[r.ImageID] = j.FinishedAt
	if len(s.results) < maxSightings {
		s.results = append(s.results, result{pulled: r.Source == puller.SourcePulled, id: r.ImageID, name: names.EngineRef(j.Image), began: j.StartedAt, finished: j.FinishedAt})
	}
}

// fullName returns the full form of a name that an engine has shortened. IDs and what is no
// name stay.
func fullName(name string) string {
	if strings.HasPrefix(name, "sha256:") {
		return name
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return names.EngineRef(reference.TagNameOnly(named).String())
}

// arrival returns when an image that was not there before has come: when it was first
// named in an event, which may be while the list was made, or else asOf, when the list was
// asked for. pulled says that a pull brought it.
func (s *sightings) arrival(i engines.ImageSummary, asOf time.Time) (at time.Time, pulled bool) {
	called := slices.Concat(i.Tags, i.Digests)
	for _, r := range s.results {
		if r.id == i.ID && r.pulled {
			called = append(called, r.name) // which another image may have by now
		}
	}
	for _, name := range called {
		for _, t := range s.names[name] {
			if (at.IsZero() || t.Before(at)) && t.After(s.deleted[i.ID]) && !s.broughtAnother(name, i.ID, t) {
				at = t
			}
		}
	}
	if at.IsZero() {
		at = asOf
		for _, r := range s.results {
			if r.id == i.ID && r.pulled && r.finished.Before(at) && r.finished.After(s.deleted[i.ID]) {
				at = r.finished // it was there by then, and the event comes a moment later
			}
		}
	}
	if other, ok := s.foreign[i.ID]; ok && !other.After(at) {
		return other.UTC(), false
	}
	return at.UTC(), true
}

// broughtAnother reports whether the pull of a name at a time was a job's, which got another
// image: the name has moved since.
func (s *sightings) broughtAnother(name, id string, at time.Time) bool {
	return slices.ContainsFunc(s.results, func(r result) bool {
		return r.name == name && r.id != id && !at.Before(r.began) && !at.After(r.finished)
	})
}
