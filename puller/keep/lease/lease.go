// Package lease keeps images from collection for a while: because a caller asks for it, or
// with a job, from its submission on and anew from its success.
package lease

import (
	"slices"
	"time"

	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

// kind is the kind of the records. Their keys are the leases' IDs.
const kind = "lease"

// record is a lease as it is kept. It is never changed, but replaced.
type record struct {
	Images   []string      `json:"images"`
	ImageIDs []string      `json:"image_ids,omitempty"`
	TTL      time.Duration `json:"ttl"`
	Note     string        `json:"note,omitempty"`
	Caller   string        `json:"caller,omitempty"`
	Job      string        `json:"job,omitempty"`
	JobEnded bool          `json:"job_ended,omitempty"`
	Created  time.Time     `json:"created"`
	Renewed  time.Time     `json:"renewed,omitzero"`
	Expires  time.Time     `json:"expires"` // while the job has not ended, this is the least
}

// waits reports whether the lease is kept for a job that may not have ended.
func (r *record) waits() bool { return r.Job != "" && !r.JobEnded }

// keys returns under what an image may be found that the lease is for.
func (r *record) keys() []string {
	keys := make([]string, 0, len(r.Images)+len(r.ImageIDs))
	for _, image := range r.Images {
		keys = append(keys, names.EngineRef(image))
	}
	keys = append(keys, r.ImageIDs...)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// kept is a lease in memory.
type kept struct {
	record
	id string
	// deadline ends the lease by a clock that nobody sets: where the system's clock is
	// set back, Expires alone would make the lease longer.
	deadline time.Time
	unsaved  bool // the disk has an older record
}

// expired reports whether the lease is over at a time of the system's clock.
func (k *kept) expired(wall time.Time) bool {
	return !k.waits() && (!wall.Before(k.Expires) || !time.Now().Before(k.deadline))
}

// view returns the lease in the form of the API.
func (k *kept) view(wall time.Time) keep.Lease {
	v := keep.Lease{
		ID: k.id, Images: slices.Clone(k.Images), ImageIDs: slices.Clone(k.ImageIDs), Note: k.Note, Job: k.Job,
		TTLSeconds: k.TTL.Seconds(), CreatedAt: k.Created, RenewedAt: k.Renewed, ExpiresAt: k.Expires,
	}
	if least := wall.Add(k.TTL); k.waits() && least.After(v.ExpiresAt) {
		v.ExpiresAt = least
	}
	v.ExpiresAt = v.ExpiresAt.UTC()
	return v
}
