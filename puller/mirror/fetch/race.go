package fetch

import "time"

// race is two tasks that bring the same bytes.
type race struct {
	tasks []*task
	high  int64 // up to where bytes were counted
}

// count returns how many of the bytes up to end the other task has not brought. A nil race
// counts all.
func (r *race) count(n int, end int64) int {
	if r == nil {
		return n
	}
	n = int(min(int64(n), max(0, end-r.high)))
	r.high = max(r.high, end)
	return n
}

// leave takes a task out, and returns the other one, which has no race from then on.
func (r *race) leave(t *task) *task {
	if r == nil {
		return nil
	}
	for _, other := range r.tasks {
		if other != t && other.race == r {
			t.race = nil
			return other
		}
	}
	return nil
}

const (
	// slow is how long a task must have left to be raced.
	slow = time.Second
	// small is how many bytes are raced as a whole.
	small = 1 << 20
)

// race returns a task that takes over a part of what the slowest task has left, nil where
// no task is slow. The lock is held.
func (f *Fetcher) race(now time.Time) *task {
	if f.running >= f.o.Connections || f.limiter != nil { // a limited rate makes all slow
		return nil
	}
	var slowest *task
	var most time.Duration
	for _, w := range f.works {
		if w.err != nil || !w.registry.free(now) {
			continue
		}
		for _, b := range w.blobs {
			for _, t := range b.active {
				if left := f.timeLeft(t, now); left >= slow && left > most {
					slowest, most = t, left
				}
			}
		}
	}
	if slowest == nil {
		return nil
	}
	f.stats.Races++
	t := &task{blob: slowest.blob, at: slowest.at, to: slowest.to}
	if left := slowest.to - slowest.at; left > small {
		t.at += left / 2
		slowest.to = t.at
		return t
	}
	r := &race{tasks: []*task{slowest, t}, high: slowest.at}
	slowest.race, t.race = r, r
	return t
}

// timeLeft returns how long a task is likely to need, 0 for one that is not to be raced.
func (f *Fetcher) timeLeft(t *task, now time.Time) time.Duration {
	elapsed, left := now.Sub(t.started), t.to-t.at
	if t.whole || t.blob.refill || t.race != nil || t.ctx.Err() != nil || elapsed < slow || left <= 0 {
		return 0
	}
	// A small rest comes twice. That is only worth it if this connection is the slow one.
	if usual := t.blob.work.registry.typical; left <= small && float64(t.got) > usual/2*elapsed.Seconds() && usual > 0 {
		return 0
	}
	const never = 365 * 24 * time.Hour
	if t.got <= 0 {
		return never
	}
	if s := elapsed.Seconds() * float64(left) / float64(t.got); s < never.Seconds() {
		return time.Duration(s * float64(time.Second))
	}
	return never
}
