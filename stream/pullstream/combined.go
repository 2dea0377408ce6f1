package pullstream

import "time"

// Sum is the progress of several pulls together. A layer that more than one of
// them has counts once, as far as the furthest of them is with it. So nothing in it
// runs backwards. The zero value is ready for use. It is for one goroutine.
type CombinedProgress struct {
	byID    map[string]*layer
	totals  Totals // without Rate and ETASeconds
	unsized int    // layers whose size is unknown
	rate    rate
}

// maxSum bounds the layers of a sum: an engine may name any number of them.
const maxSum = 100_000

// Expect announces a layer of a known size, in bytes.
func (s *CombinedProgress) Expect(id string, size int64) {
	s.fold(id, func(l *layer) {
		if l.phase < Verifying { // later than that, its size has been told
			l.size = max(l.size, min(size, maxBytes))
		}
	})
}

// Put takes in the state of a layer in one of the pulls, and returns its state
// in the sum.
func (s *CombinedProgress) Put(told Layer, now time.Time) Layer {
	l := s.fold(told.ID, func(l *layer) {
		switch {
		case l.phase.Done():
			return
		case told.Phase != Existing:
			l.size = max(l.size, min(told.Total, maxBytes))
		case l.phase == Waiting:
			l.size = 0 // it may have been expected, but what was there counts no bytes
		}
		l.advance(told.Phase, Detail{Current: min(max(told.Current, 0), maxBytes), Total: min(told.Total, maxBytes)})
	})
	if l == nil {
		return told
	}
	s.rate.observe(s.totals.Downloaded, now)
	return l.state()
}

// fold changes a layer and keeps the totals in step.
func (s *CombinedProgress) fold(id string, change func(*layer)) *layer {
	l, known := s.byID[id]
	if !known {
		if len(s.byID) == maxSum || len(id) > maxLayerID {
			return nil
		}
		l = &layer{id: id}
		if s.byID == nil {
			s.byID = make(map[string]*layer)
		}
		s.byID[id] = l
	} else {
		s.count(l, -1)
	}
	change(l)
	s.count(l, 1)
	return l
}

func (s *CombinedProgress) count(l *layer, sign int) {
	t, n := &s.totals, int64(sign)
	t.Layers += sign
	t.Downloaded += n * l.downloaded
	t.Extracted += n * l.extracted
	t.Total += n * l.size
	if l.phase.Done() {
		t.LayersDone += sign
	}
	if l.phase == Existing {
		t.LayersExisting += sign
	}
	if l.unsized() {
		s.unsized += sign
	}
}

// Totals returns the sums as they stand at the time given. With more, other
// layers are going to be named, so what is left is not known.
func (s *CombinedProgress) Totals(now time.Time, more bool) Totals {
	t := s.totals
	if more || s.unsized > 0 {
		t.Total = 0
	}
	t.estimate(&s.rate, now)
	return t
}
