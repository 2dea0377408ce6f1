package fetch

import "time"

const (
	// firstConnections is how many requests are made to a registry at first. While that
	// makes the whole faster, there are growth times as many.
	firstConnections, growth = 6, 3
	// measure is how long a rate is measured; that of the first connections for a
	// shorter time: it is too early for the line to be full.
	measureFirst, measure = 30 * time.Millisecond, 200 * time.Millisecond
	// settle is how long new connections may take to bring bytes, before a rate is
	// measured without them.
	settle = time.Second
	// leastGain is how many times as fast more connections must be, in one of so many
	// measurements: new connections begin slowly.
	leastGain, trials = 1.1, 3
	// fullAt is what part of the rate of one connection alone each of many brings at least,
	// while the line is not full.
	fullAt = 0.65
	// firstHold is how long no more connections are tried after some that brought nothing.
	// It doubles up to maxHold.
	firstHold, maxHold = 2 * time.Second, time.Minute
	// wholeFor is how long a registry is remembered that serves no ranges.
	wholeFor = 10 * time.Minute
	// firstCoolDown is the cool-down of a registry that does not say how long. It doubles.
	firstCoolDown = time.Second
	// maxCoolDown is how long a registry is waited for.
	maxCoolDown = 30 * time.Second
	// maxRegistries is how many registries are remembered. Callers choose their names.
	maxRegistries = 1000
)

// registry is what is known of a registry. The Fetcher's lock guards it.
type registry struct {
	limit   int
	works   int
	running int       // tasks
	busy    int       // answers in a row that asked for fewer requests
	until   time.Time // of the cool-down
	whole   time.Time // until when it is asked for no ranges

	// allowed is how many tasks may run. It grows while that makes the rate grow.
	allowed int
	before  int       // allowed, before it grew last
	rate    float64   // with before tasks, in bytes a second
	each    float64   // the part of one of the first tasks of the rate that they had
	changed time.Time // when allowed changed
	begun   time.Time // of the measurement; the zero time for none
	bytes   int64     // of the measurement
	tried   int       // measurements since allowed changed
	hold    time.Time // until when allowed does not grow
	pause   time.Duration

	probe   probe
	typical float64 // bytes a second of tasks that have ended
	total   Rate
	all     window         // for total
	seen    map[*task]bool // that have brought bytes since allowed changed
}

// Rate is how fast a registry was since it was used last.
type Rate struct {
	Bytes int64 // that were measured
	// One is the highest rate of one connection, and All that of all together, in bytes a
	// second over a fifth of a second; 0 where it is not known. One connection is measured
	// for a short time without others beside it: where it fills the line, One is about
	// as much as All.
	One, All float64
}

// window measures a rate.
type window struct {
	begun time.Time
	bytes int64
}

// add adds bytes, and returns the rate of a window that has ended, 0 for none.
func (w *window) add(n int, now time.Time) float64 {
	took := now.Sub(w.begun)
	if w.begun.IsZero() || took > 2*measure { // nothing came for a while
		w.begun, w.bytes = now, 0
		return 0
	}
	w.bytes += int64(n)
	if took < measure {
		return 0
	}
	rate := float64(w.bytes) / took.Seconds()
	w.begun, w.bytes = now, 0
	return rate
}

// Rate returns how fast a registry was.
func (f *Fetcher) Rate(registry string) Rate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.registries[registry]; r != nil {
		return r.total
	}
	return Rate{}
}

// registryOf returns a registry for one more work. The lock is held.
func (f *Fetcher) registryOf(name string) *registry {
	r := f.registries[name]
	if r == nil {
		for other, known := range f.registries {
			if len(f.registries) >= maxRegistries && known.works == 0 {
				delete(f.registries, other)
			}
		}
		r = &registry{limit: min(f.o.PerRegistry, f.o.Connections)}
		r.allowed = min(firstConnections, r.limit)
		r.before = r.allowed
		f.registries[name] = r
	}
	if r.works == 0 {
		r.total, r.all, r.begun = Rate{}, window{}, time.Time{}
		r.total.One = r.probe.renew(time.Now())
	}
	return r
}

// free reports whether one more task may run.
func (r *registry) free(now time.Time) bool {
	return r.running < r.allowed && !r.until.After(now)
}

func (r *registry) refusesRanges(now time.Time) bool { return r.whole.After(now) }

// idle ends a measurement: there are fewer tasks than may run.
func (r *registry) idle() {
	if r.running < r.allowed {
		r.begun = time.Time{}
	}
}

// note takes in bytes that a task has got, and reports whether more tasks may run.
func (r *registry) note(t *task, n int, now time.Time) bool {
	r.total.Bytes += int64(n)
	r.total.One = max(r.total.One, t.window.add(n, now))
	r.total.All = max(r.total.All, r.all.add(n, now))
	if n == 0 {
		return false
	}
	r.busy = 0
	if r.probe.task == t {
		if r.probe.window.begun.IsZero() {
			r.probe.first(now)
			return true // so that the others begin in time
		}
		if !r.probe.note(n, now) {
			return false
		}
		r.total.One = max(r.total.One, r.probe.rate)
		r.changed = now
		return true
	}
	if r.begun.IsZero() {
		if r.running >= r.allowed && (r.flowing(t) || now.Sub(r.changed) >= settle) {
			r.begun, r.bytes = now, 0
		}
		return false
	}
	r.bytes += int64(n)
	took := now.Sub(r.begun)
	if took < measureFirst || took < measure && r.allowed > firstConnections {
		return false
	}
	rate := float64(r.bytes) / took.Seconds()
	r.begun = time.Time{}
	if r.allowed > r.before && rate < leastGain*r.rate {
		if r.tried++; r.tried < trials {
			return false
		}
		r.set(r.before, now) // more connections bring no more
		r.pause = min(max(2*r.pause, firstHold), maxHold)
		r.hold = now.Add(r.pause)
		return false
	}
	r.before, r.rate = r.allowed, rate
	if r.allowed <= firstConnections {
		r.each = rate / float64(r.allowed)
	}
	if r.allowed >= r.limit || r.hold.After(now) || r.full() {
		return false
	}
	r.set(min(growth*r.allowed, r.limit), now)
	return true
}

// full reports whether the line is full: each connection brings far less than one alone, and
// than each of the first ones. More of them would only make each slower, and a blob arrive
// later.
func (r *registry) full() bool {
	return r.allowed > firstConnections && r.rate < fullAt*min(r.probe.rate, r.each)*float64(r.allowed)
}

// measured takes in how fast a task was that has brought all of its piece.
func (r *registry) measured(t *task, now time.Time) {
	if took := now.Sub(t.started).Seconds(); t.got >= leastProgress && took > 0 {
		rate := float64(t.got) / took
		if r.typical == 0 {
			r.typical = rate
		}
		r.typical += (rate - r.typical) / 4
	}
}

// set changes how many tasks may run.
func (r *registry) set(allowed int, now time.Time) {
	r.allowed, r.changed, r.begun, r.tried = allowed, now, time.Time{}, 0
	r.seen = nil
}

// flowing reports whether as many tasks as may run have brought bytes since that changed.
func (r *registry) flowing(t *task) bool {
	if r.seen == nil {
		r.seen = make(map[*task]bool)
	}
	if len(r.seen) < r.allowed {
		r.seen[t] = true
	}
	return len(r.seen) >= r.allowed
}

// cool begins a cool-down, and returns how long it is. Answers to requests that were made
// before it count as one.
func (r *registry) cool(asked time.Duration, now time.Time) time.Duration {
	if r.until.After(now) && asked <= r.until.Sub(now) {
		return 0
	}
	pause := asked
	if pause <= 0 {
		pause = min(firstCoolDown<<r.busy, maxCoolDown)
	}
	if !r.until.After(now) {
		r.busy++
		r.before = max(1, r.allowed/2)
		r.set(r.before, now)
		r.hold = now.Add(maxHold)
	}
	r.until = now.Add(min(pause, maxCoolDown))
	return pause
}
