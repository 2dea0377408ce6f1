// Package ranges says which bytes of a blob are there, in memory and in a file.
package ranges

import (
	"slices"
	"sort"
)

// Range is the bytes of a blob from From on, without the one at To.
type Range struct{ From, To int64 }

// Set is ranges in ascending order that don't touch. Its zero value is empty. It is not to be
// used by several goroutines at a time.
type Set []Range

// find returns the index of the first range that ends after an offset.
func (s Set) find(off int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].To > off })
}

// End returns up to where bytes are there without a hole from an offset on. It is the
// offset itself if that byte is missing.
func (s Set) End(off int64) int64 {
	if i := s.find(off); i < len(s) && s[i].From <= off {
		return s[i].To
	}
	return off
}

// Next returns where the first range begins that begins at an offset or after it, or
// size if there is none.
func (s Set) Next(off, size int64) int64 {
	i := sort.Search(len(s), func(i int) bool { return s[i].From >= off })
	if i < len(s) {
		return s[i].From
	}
	return size
}

// Add adds a range that is not empty, and returns the range that it became part of.
func (s *Set) Add(r Range) Range {
	i := sort.Search(len(*s), func(i int) bool { return (*s)[i].To >= r.From })
	j := i
	for j < len(*s) && (*s)[j].From <= r.To {
		r = Range{min(r.From, (*s)[j].From), max(r.To, (*s)[j].To)}
		j++
	}
	*s = slices.Replace(*s, i, j, r)
	return r
}

// Missing returns what is not there of size bytes.
func (s Set) Missing(size int64) []Range {
	var gaps []Range
	at := int64(0)
	for _, r := range s {
		if r.From > at {
			gaps = append(gaps, Range{at, r.From})
		}
		at = r.To
	}
	if at < size {
		gaps = append(gaps, Range{at, size})
	}
	return gaps
}

// Total returns how many bytes are there.
func (s Set) Total() int64 {
	n := int64(0)
	for _, r := range s {
		n += r.To - r.From
	}
	return n
}
