package stream

import (
	"cmp"
	"slices"
)

// byOrder sets the order of numbered frames, which is their number.
func byOrder(frames []Frame) []Frame {
	for i := range frames {
		frames[i].order = frames[i].Seq
	}
	return frames
}

// after returns the frames after an order, of frames that are in order.
func after(frames []Frame, order uint64) []Frame {
	i := len(frames)
	for i > 0 && frames[i-1].order > order {
		i--
	}
	return frames[i:len(frames):len(frames)]
}

// upTo drops the frames after an order.
func upTo(order uint64, frames []Frame) []Frame {
	for len(frames) > 0 && frames[len(frames)-1].order > order {
		frames = frames[:len(frames)-1]
	}
	return frames
}

// firstPart returns the first frames, as many as one batch may have of a kind,
// and whether that is not all of them.
func firstPart(frames []Frame) ([]Frame, bool) {
	size := 0
	for i := range frames {
		if size += frames[i].size(); size > batchSize && i > 0 {
			return frames[:i], true
		}
	}
	return frames, false
}

// inOrder merges ordered runs into the order they were published in.
func inOrder(runs ...[]Frame) []Frame {
	all := slices.Concat(runs...)
	slices.SortStableFunc(all, func(a, b Frame) int { return cmp.Compare(a.order, b.order) })
	return all
}
