package usage

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/engines"
)

// records are what is known of the images of the last list, and what of it is not saved yet.
// They do no I/O. Table.mu guards them.
type records struct {
	byID    map[string]Record
	byName  map[string]string // image IDs of the last list, by name
	changed map[string]bool   // IDs whose record is to be saved
	gone    map[string]bool   // IDs whose record is to be deleted
}

func newRecords() records {
	return records{byID: make(map[string]Record), byName: make(map[string]string), changed: make(map[string]bool), gone: make(map[string]bool)}
}

// apply takes over what a list tells, which was asked for at a time, and what was seen until
// it came. complete is since when all events and images are known, zero while they are not.
func (r *records) apply(images []engines.ImageSummary, containers []engines.ContainerState, seen sightings, asOf, complete time.Time) {
	listed := make(map[string]bool, len(images))
	r.byName = make(map[string]string, len(images))
	for _, i := range images {
		listed[i.ID] = true
		for _, name := range slices.Concat(i.Tags, i.Digests) {
			r.byName[name] = i.ID
		}
		if _, known := r.byID[i.ID]; !known {
			at, pulled := seen.arrival(i, asOf)
			r.set(i.ID, Record{Arrived: at, Foreign: !pulled})
		}
	}
	for id := range r.byID {
		if !listed[id] {
			r.drop(id)
		}
	}
	r.bring(seen.results, complete)
	for id, at := range seen.images {
		r.use(id, at)
	}
	for name, times := range seen.names {
		r.use(r.byName[name], times[len(times)-1])
	}
	of := make(map[string]string, len(containers))
	for _, c := range containers {
		of[c.ID] = c.ImageID
	}
	for id, v := range seen.containers {
		image, there := of[id]
		if _, known := r.byID[image]; !there || !known {
			image = r.resolve(v.image) // it was removed meanwhile
		}
		r.use(image, v.last)
	}
}

// resolve returns the ID of the image that a container was created with, "" where that is
// not known.
func (r *records) resolve(image string) string {
	if _, known := r.byID[image]; known {
		return image
	}
	return r.byName[fullName(image)]
}

func (r *records) set(id string, one Record) {
	r.byID[id] = one
	r.changed[id] = true
	delete(r.gone, id)
}

func (r *records) drop(id string) {
	delete(r.byID, id)
	delete(r.changed, id)
	r.gone[id] = true
}

func (r *records) use(id string, at time.Time) {
	if one, known := r.byID[id]; known && one.use(at) {
		r.set(id, one)
	}
}

// bring decides which images Towline brought: those that a job pulled, and that came by a
// pull while it did. All images and events must have been known since the job began.
func (r *records) bring(results []result, complete time.Time) {
	for _, v := range results {
		one, known := r.byID[v.id]
		if !known || !v.pulled {
			continue
		}
		since := v.known || !complete.IsZero() && !v.began.Before(complete)
		here := !one.Arrived.Before(v.began) && !one.Arrived.After(v.finished)
		if (len(one.Brought) > 0 || since && here && !one.Foreign) && one.bring(v.name) {
			r.set(v.id, one)
		}
	}
}

// take returns what is to be saved, by image ID, and whose records are to be deleted. Both
// count as done then, unless they are put back.
func (r *records) take() (values map[string][]byte, gone []string, err error) {
	values = make(map[string][]byte, len(r.changed))
	for id := range r.changed {
		if values[id], err = json.Marshal(r.byID[id]); err != nil {
			return nil, nil, err
		}
	}
	gone = slices.Collect(maps.Keys(r.gone))
	r.changed, r.gone = make(map[string]bool), make(map[string]bool)
	return values, gone, nil
}

// putBack has what could not be saved be taken again. What has changed meanwhile stays so.
func (r *records) putBack(values map[string][]byte, gone []string) {
	for id := range values {
		if _, known := r.byID[id]; known {
			r.changed[id] = true
		}
	}
	for _, id := range gone {
		if _, known := r.byID[id]; !known {
			r.gone[id] = true
		}
	}
}
