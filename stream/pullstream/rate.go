package pullstream

import "time"

// rate measures bytes per second over the last few seconds, from a running
// count and the times it was seen.
type rate struct {
	bytes int64
	marks []mark // the oldest first, at least markEvery apart
}

type mark struct {
	at    time.Time
	bytes int64
}

const (
	markEvery = 500 * time.Millisecond
	markCount = 10
)

// observe notes the count at a time. Counts do not run backwards; where the
// time does, because the clock was set back, measuring begins anew.
func (r *rate) observe(bytes int64, now time.Time) {
	r.bytes = bytes
	if n := len(r.marks); n > 0 && now.Before(r.marks[n-1].at) {
		r.marks = r.marks[:0]
	}
	if n := len(r.marks); n > 0 && now.Sub(r.marks[n-1].at) < markEvery {
		return
	}
	if len(r.marks) == markCount {
		r.marks = append(r.marks[:0], r.marks[1:]...)
	}
	r.marks = append(r.marks, mark{now, bytes})
}

// perSecond returns the rate up to now, or 0 where too little has been seen.
// It falls while nothing comes.
func (r *rate) perSecond(now time.Time) int64 {
	if len(r.marks) == 0 {
		return 0
	}
	oldest := r.marks[0]
	elapsed := now.Sub(oldest.at)
	if elapsed < markEvery {
		return 0
	}
	return int64(float64(r.bytes-oldest.bytes) / elapsed.Seconds())
}
