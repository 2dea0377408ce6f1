package stream

import (
	"cmp"
	"slices"
)

// An About says which job frames are of, for readers of many jobs. Frames of no job may be
// of an image with several names.
type About struct {
	Job, Kind, Image string
	Names            []string
}

// A Filter chooses jobs by kind and image. "" is any.
type Filter struct {
	Kind, Image string
}

func (f Filter) match(a *About) bool {
	return (f.Kind == "" || a.Kind == f.Kind) && (f.Image == "" || a.Image == f.Image || slices.Contains(a.Names, f.Image))
}

// logged is a frame in the event log.
type logged struct {
	Frame
	about *About
}

// ring has the last of some frames, in order.
type ring struct {
	frames []logged
	size   int
	floor  uint64 // frames up to this order are dropped
}

// push adds a frame and drops the oldest ones above a limit, in bytes.
func (r *ring) push(f logged, limit int) {
	r.frames = append(r.frames, f)
	r.size += f.size()
	n := 0
	for ; r.size > limit && n < len(r.frames)-1; n++ {
		r.size -= r.frames[n].size()
		r.floor = r.frames[n].order
	}
	// Readers have the array. So what is dropped stays in it until it is full.
	r.frames = r.frames[n:]
}

// after returns the frames after an order.
func (r *ring) after(order uint64) []logged {
	i, _ := slices.BinarySearchFunc(r.frames, order+1, func(f logged, order uint64) int { return cmp.Compare(f.order, order) })
	return r.frames[i:len(r.frames):len(r.frames)]
}
