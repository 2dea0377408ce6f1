package usage

import (
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// sightings are what was told since the last list of images. Events name images and
// containers in ways that only a list can resolve.
type sightings struct {
	containers map[string]sighting // by ID
	names      map[string]sighting // pulls by other clients and by jobs, by name
	images     map[string]time.Time
	foreign    map[string]time.Time // when an image was first seen to come by another way than a pull
	deleted    map[string]time.Time // when an image was last removed
	results    []result
	stale      bool // the images are no longer those of the last list
}

// sighting is when something was first and last seen.
type sighting struct {
	first, last time.Time
	image       string // of a container
}

// result is a job that has pulled an image.
type result struct {
	id, name        string
	began, finished time.Time
}

// maxSightings bounds each of the sightings. What is beyond it is lost: a use is noted too
// early, and an image is called somebody else's.
const maxSightings = 20_000

func newSightings() sightings {
	return sightings{containers: make(map[string]sighting), names: make(map[string]sighting), images: make(map[string]time.Time), foreign: make(map[string]time.Time), deleted: make(map[string]time.Time)}
}

// empty reports whether a list would change nothing.
func (s *sightings) empty() bool {
	return len(s.containers)+len(s.names)+len(s.images)+len(s.results) == 0 && !s.stale
}

func see(m map[string]sighting, key, image string, at time.Time) {
	v, known := m[key]
	switch {
	case !known && len(m) >= maxSightings:
		return
	case !known:
		v = sighting{first: at, image: image}
	}
	if at.After(v.last) {
		v.last = at
	}
	m[key] = v
}

// event notes an engine's event. An engine's clock may be ahead of this one.
func (s *sightings) event(v puller.EngineEvent) {
	if now := time.Now(); v.Time.After(now) {
		v.Time = now
	}
	switch v.Type {
	case puller.EngineContainer:
		switch v.Action {
		case "create", "start", "die", "restart", "unpause":
			see(s.containers, v.ID, v.Image, v.Time)
		}
	case puller.EngineImage:
		s.stale = true
		switch v.Action {
		case "pull":
			see(s.names, fullName(v.ID), "", v.Time)
		case "delete":
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
	if r.Source == puller.SourcePulled && len(s.results) < maxSightings {
		s.results = append(s.results, result{r.ImageID, names.EngineRef(j.Image), j.StartedAt, j.FinishedAt})
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
// named in an event, or else asOf. pulled says that a pull brought it.
func (s *sightings) arrival(i puller.ImageSummary, asOf time.Time) (at time.Time, pulled bool) {
	at, pulled = asOf, true
	for _, name := range slices.Concat(i.Tags, i.Digests) {
		if v, ok := s.names[name]; ok && v.first.Before(at) {
			at = v.first
		}
	}
	if other, ok := s.foreign[i.ID]; ok && !other.After(at) {
		at, pulled = other, false
	}
	if gone := s.deleted[i.ID]; gone.After(at) {
		at = gone // and came again
	}
	return at.UTC(), pulled
}
