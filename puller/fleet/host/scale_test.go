package host_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// BenchmarkFleet has 1,000 hosts with engines that pull at once, on one server in this
// process: the time from a put until all have proven it, and until 100 have that were away.
func BenchmarkFleet(b *testing.B) {
	const n = 1000
	r := newRig(b)
	r.beat, r.every = fleet.BeatEvery, time.Second
	c := r.controller("main")
	hosts := r.hosts(n)
	r.live(c, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	in, bytes := r.server.NumClients(), r.server.NumSubscriptions()
	b.Logf("%d connections, %d subscriptions, %d MiB of memory in all", in, bytes, before.HeapAlloc>>20)
	for round := 0; b.Loop(); round++ {
		r.registry.set(func() { r.registry.tags[web] = digest(fmt.Sprint("web ", round)) })
		was, _ := r.server.Varz(nil)
		begin := time.Now()
		s, err := c.PutSet(context.Background(), "web", images(web))
		if err != nil {
			b.Fatal(err)
		}
		put := time.Since(begin)
		if s, err = c.Wait(context.Background(), "web", s.Generation); err != nil || s.Counts[fleet.StateProven] != n {
			b.Fatalf("%v, %v", s.Counts, puller.KindOf(err))
		}
		took := time.Since(begin)
		now, _ := r.server.Varz(nil)
		runtime.ReadMemStats(&after)
		b.Logf("put %s, all proven %s; %.1f messages and %.0f bytes in, %.1f and %.0f out, of each host; %d MiB", put, took,
			float64(now.InMsgs-was.InMsgs)/n, float64(now.InBytes-was.InBytes)/n, float64(now.OutMsgs-was.OutMsgs)/n, float64(now.OutBytes-was.OutBytes)/n, after.HeapAlloc>>20)
		const away = 100
		for _, h := range hosts[:away] {
			h.stop()
		}
		r.live(c, n-away)
		r.registry.set(func() { r.registry.tags[web] = digest(fmt.Sprint("web again ", round)) })
		if s, err = r.put(c, "web", images(web)); err != nil || s.Counts[fleet.StateAway] != away {
			b.Fatalf("%v, %v", s.Counts, err)
		}
		was, _ = r.server.Varz(nil)
		begin = time.Now()
		for _, h := range hosts[:away] {
			r.begin(h)
		}
		r.is(c, "web", map[fleet.State]int{fleet.StateProven: n})
		took = time.Since(begin)
		now, _ = r.server.Varz(nil)
		b.Logf("%d away and back: all proven %s; %.1f messages and %.0f bytes in of each of them", away, took,
			float64(now.InMsgs-was.InMsgs)/away, float64(now.InBytes-was.InBytes)/away)
	}
}
