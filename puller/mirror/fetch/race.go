package fetch

import "time"

// leave takes a task out of its race, and returns the other one.
func (t *task) leave() *task {
	other := t.partner
	if other != nil {
		t.partner, other.partner = nil, nil
	}
	return other
}

// count returns how many of the bytes up to end were not counted before: two tasks that race
// bring the same.
func (t *task) count(n int, end int64) int {
	n = int(min(int64(n), max(0, end-t.counted)))
	t.counted = max(t.counted, end)
	if t.partner != nil {
		t.partner.counted = t.counted
	}
	return n
}

const (
	// slow is how long a task must have run, and must have left, to be raced. patience is how
	// long it must have run where the work is patient: a busy host reads with pauses.
	slow, patience = time.Second, 6 * time.Second
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
				if left := t.timeLeft(now); left >= slow && left > most {
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
	t.counted = slowest.counted
	slowest.partner, t.partner = t, slowest
	return t
}

// timeLeft returns how long a task is likely to need, 0 for one that is not to be raced.
func (t *task) timeLeft(now time.Time) time.Duration {
	elapsed, left := now.Sub(t.started), t.to-t.at
	least := slow
	if t.blob.work.Patient {
		least = patience
	}
	if t.whole || t.blob.refill || t.partner != nil || t.ctx.Err() != nil || t.spared.After(now) || elapsed < least || left <= 0 {
		return 0
	}
	usual := t.blob.work.registry.typical * elapsed.Seconds()
	// A small rest comes twice. That is only worth it if this connection is the slow one.
	if left <= small && float64(t.got) > usual/2 && usual > 0 {
		return 0
	}
	if t.blob.work.Patient && float64(t.got) >= usual/4 {
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
