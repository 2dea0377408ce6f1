// Package usage keeps what an engine does not tell of its images: since when one is here,
// when it was last used, and whether Towline brought it. It learns that from the engine's
// events, from its containers, and from the results of jobs.
package usage

import (
	"slices"
	"time"
)

// Record is what is known of an image.
type Record struct {
	// Arrived is when the image came, or was first seen here.
	Arrived time.Time `json:"arrived"`
	// Used is when a container of it was last created, started or ended, or a job or
	// another client last had it pulled; zero where no use was seen.
	Used time.Time `json:"used,omitzero"`
	// Foreign says that it came by another way than a pull: it was loaded, or built.
	Foreign bool `json:"foreign,omitempty"`
	// Brought are the names under which Towline pulled it, in full form and sorted. They
	// are empty where somebody else brought the image, or that is not certain.
	Brought []string `json:"brought,omitempty"`
}

// LastUsed returns when the image was last used, or came.
func (r Record) LastUsed() time.Time {
	if r.Used.After(r.Arrived) {
		return r.Used
	}
	return r.Arrived
}

// use notes a use, and reports whether that changes the record. Uses within coarse of each
// other are one, so that a busy image is not saved all the time.
func (r *Record) use(at time.Time) bool {
	if at.Sub(r.Used) < coarse {
		return false
	}
	r.Used = at.UTC()
	return true
}

// coarse is how exact Used is.
const coarse = time.Second

// bring notes a name under which Towline pulled the image.
func (r *Record) bring(name string) bool {
	at, known := slices.BinarySearch(r.Brought, name)
	if known {
		return false
	}
	r.Brought = slices.Insert(slices.Clone(r.Brought), at, name)
	return true
}

// Kind is the kind of this package's records. Their keys are the images' IDs.
const Kind = "image"
