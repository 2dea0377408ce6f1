// Package fetch brings blobs from registries with many connections.
//
// A blob is fetched in pieces: bounded ranges, each by one request. What is fetched next is
// decided whenever a connection becomes free: first what a reader waits for, then the
// works in order of arrival, and in a work the blobs in their order. One piece in four is of
// the work with the fewest connections. Two works that are the last ones share the
// connections equally. At the end of a work, free connections take over a part of what the
// slowest ones have left.
package fetch

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/towline/towline/puller"
)

// Range is the bytes of a blob from From on, without the one at To.
type Range struct{ From, To int64 }

// Sink is where a blob's bytes go. Its methods may be called from anywhere.
type Sink interface {
	Digest() string
	Size() int64 // in bytes
	// Missing returns the ranges that are not there yet, in ascending order.
	Missing() []Range
	// WriteAt takes bytes. Calls come in any order and at the same time, and bytes may
	// come twice. An error of kind ErrCorrupt says that the digest of all bytes is
	// wrong, and that none of them is kept.
	WriteAt(p []byte, off int64) (int, error)
	// Wanted returns the lowest offset that a reader waits for now, -1 for none.
	Wanted() int64
	// Below returns how many layers of its image are below it.
	Below() int
}

// Work is what one Fetch brings.
type Work struct {
	Repository puller.Repository
	// Registry is the name of the repository's registry, by which connections are limited.
	Registry string
	// Sinks are in the order in which they are needed: the configuration, then the layers
	// from the base up.
	Sinks []Sink
	// Patient says that only connections are raced that are much slower than is usual for
	// the registry, and for longer. Where many hosts share a line, all are slow, and what a
	// connection sends after another one took over is lost.
	Patient bool
	// Progress, if not nil, is called with the number of bytes that were written. It is
	// called from several goroutines at a time.
	Progress func(n int)
	// CoolDown, if not nil, is called when the registry asks for fewer requests, with how
	// long the Fetcher makes none to it.
	CoolDown func(d time.Duration)
}

// Options are the limits of a Fetcher. What is 0 has the default.
type Options struct {
	Connections int   // requests at a time; 24
	PerRegistry int   // requests at a time to one registry; 16
	Chunk       int64 // bytes of a piece, at most; 16 MiB
	Rate        int64 // bytes a second in all; no limit
	// Stall is how long a connection may bring nothing before it is ended; 10 s.
	Stall time.Duration
}

const (
	// buffer is how many bytes a connection keeps in memory.
	buffer = 256 << 10
	// flushAfter is how long bytes may be in memory while others come.
	flushAfter = 50 * time.Millisecond
	// shareEvery is how often a piece is that of the work with the fewest connections. The
	// others are those of the work that came first: it is better to have one image early
	// than all late. The last two works share all connections: an engine unpacks the layers
	// of one image one after another, but two images at a time, so it has less left to
	// unpack when the last bytes come.
	shareEvery, lastWorks = 4, 2
	// tick is how often slow connections are looked for at the end of a work.
	tick = 250 * time.Millisecond
)

// Fetcher brings blobs for several works at a time. Its methods may be called from anywhere.
type Fetcher struct {
	o       Options
	limiter *rate.Limiter // nil for none
	buffers sync.Pool

	mu         sync.Mutex
	works      []*work // in order of arrival
	registries map[string]*registry
	running    int         // tasks
	started    int         // pieces
	timer      *time.Timer // of the next dispatch; nil for none
	stats      Stats
}

// Stats counts since the Fetcher was made.
type Stats struct {
	Bytes       int64 // that registries have sent
	Connections int   // requests that are made now
	Retries     int   // pieces that were begun or continued again
	Races       int   // pieces that a free connection took over from a slow one
}

// New returns a Fetcher. It does nothing before Fetch.
func New(o Options) *Fetcher {
	orDefault(&o.Connections, 24)
	orDefault(&o.PerRegistry, 16)
	orDefault(&o.Chunk, 16<<20)
	orDefault(&o.Stall, 10*time.Second)
	f := &Fetcher{o: o, registries: make(map[string]*registry)}
	f.buffers.New = func() any { return new([buffer]byte) }
	if o.Rate > 0 {
		f.limiter = rate.NewLimiter(rate.Limit(o.Rate), buffer)
	}
	return f
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Stats returns what has happened so far.
func (f *Fetcher) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Connections = f.running
	return s
}

// Fetch returns when all sinks of a work have all bytes. The first error ends it: of the
// repository, with its kind; of a sink; ErrStalled where as good as nothing comes; or the
// cause of ctx. What was written stays. A blob whose digest is wrong is fetched once more.
// Sinks of the same digest are one.
func (f *Fetcher) Fetch(ctx context.Context, w Work) error {
	job := newWork(ctx, w)
	defer job.cancel(nil)
	f.mu.Lock()
	job.registry = f.registryOf(w.Registry)
	job.registry.works++
	f.works = append(f.works, job)
	f.finish(job)
	f.mu.Unlock()
	f.dispatch()
	f.await(ctx, job)
	job.tasks.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return job.err
}

// await returns when a work has ended. It ends one whose context ends, or that brings too
// little.
func (f *Fetcher) await(ctx context.Context, w *work) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	pace := pace{since: time.Now()}
	for {
		var err error
		select {
		case <-w.done:
			return
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-ticker.C:
			err = f.tooSlow(w, &pace)
		}
		if err != nil {
			f.mu.Lock()
			w.fail(err)
			f.finish(w)
			f.mu.Unlock()
			<-w.done
			return
		}
	}
}

// CoolDown has no request made to a registry for some time, at most half a minute, where it
// has told somebody else that it limits the rate. Requests that are under way go on.
func (f *Fetcher) CoolDown(name string, d time.Duration) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.registryOf(name)
	if until := now.Add(min(d, maxCoolDown)); until.After(r.until) {
		r.until = until
	}
}

// finish ends a work that is complete or has failed, once none of its tasks runs. The lock
// is held.
func (f *Fetcher) finish(w *work) {
	if w.over || w.running > 0 || w.err == nil && !w.complete() {
		return
	}
	w.over = true
	w.registry.works--
	f.works = slices.DeleteFunc(f.works, func(other *work) bool { return other == w })
	close(w.done)
}

// dispatch starts what can be started.
func (f *Fetcher) dispatch() {
	for {
		f.mu.Lock()
		candidates := f.candidates(time.Now())
		f.mu.Unlock()
		wanted := make(map[*blob]int64, len(candidates))
		for _, b := range candidates {
			wanted[b] = b.sink.Wanted()
		}
		if !f.start(wanted) {
			return
		}
	}
}

// candidates returns the blobs of which a piece could be fetched now, one of each work. The
// lock is held.
func (f *Fetcher) candidates(now time.Time) (all []*blob) {
	if f.running >= f.o.Connections {
		return nil
	}
	for _, w := range f.works {
		if w.err == nil && w.registry.free(now) {
			if b := w.next(now); b != nil {
				all = append(all, b)
			}
		}
	}
	return all
}

// start starts the most urgent task, and reports whether there was one. wanted is what
// readers of the candidates wait for.
func (f *Fetcher) start(wanted map[*blob]int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	var best *blob
	shares := f.started%shareEvery == shareEvery-1
	needed := func(b *blob) bool { at, ok := wanted[b]; return ok && at >= 0 }
	all := f.candidates(now)
	for _, b := range all {
		switch {
		case best == nil:
			best = b
		case len(all) <= lastWorks && b.work.running != best.work.running:
			if b.work.running < best.work.running {
				best = b
			}
		case needed(b) && !needed(best):
			best = b
		case needed(b) == needed(best) && shares && b.work.running < best.work.running:
			best = b
		}
	}
	if best != nil {
		at, ok := wanted[best]
		if !ok {
			at = -1
		}
		f.started++
		f.run(best.take(at, f.o.Chunk, now), now)
		return true
	}
	if t := f.race(now); t != nil {
		f.run(t, now)
		return true
	}
	f.schedule(now)
	return false
}

// schedule sets the timer for the next dispatch that does not follow the end of a task: the
// end of a pause, or the next look for slow tasks. The lock is held.
func (f *Fetcher) schedule(now time.Time) {
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	var next time.Time
	sooner := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, w := range f.works {
		sooner(w.registry.until)
		if t := w.registry.probe.task; t != nil {
			sooner(t.started.Add(maxProbe))
			sooner(w.registry.probe.opens)
		}
		for _, b := range w.blobs {
			for _, p := range b.todo {
				sooner(p.due)
			}
		}
		if w.next(now) == nil {
			w.registry.idle()
			if w.running > 0 && f.running < f.o.Connections && w.registry.free(now) {
				sooner(now.Add(tick))
			}
		}
	}
	if !next.IsZero() {
		f.timer = time.AfterFunc(next.Sub(now), f.dispatch)
	}
}
