package fetch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/fetch"
)

// Registries that do anything at any time: each Fetch ends, and where it succeeds, all bytes
// are there.
func TestAnyFaults(t *testing.T) {
	var succeeded atomic.Int64
	for seed := range uint64(60) {
		bubble(t, fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			n := func(most int64) int64 {
				mu.Lock()
				defer mu.Unlock()
				return random.Int64N(most)
			}
			o := fetch.Options{Connections: 1 + int(n(12)), PerRegistry: 1 + int(n(12)), Chunk: (1 + n(8)) * 64 * kib, Stall: time.Second}
			if n(5) == 0 {
				o.Rate = 500e3
			}
			f := fetch.New(o)
			faults := 5 + n(20) // one of so many requests
			var works sync.WaitGroup
			var links []*link
			for i := range 1 + n(3) {
				l := &link{each: 1e6, all: float64(1e6 + n(5)*1e6), delay: time.Duration(n(50)) * time.Millisecond}
				l.answer = func(r *request) (how, error) {
					if all := f.Stats().Connections; all > o.Connections {
						t.Errorf("%d connections in all", all)
					}
					if n(faults) > 0 {
						return how{}, nil
					}
					switch n(8) {
					case 0:
						return how{cut: 1 + n(200*kib)}, nil
					case 1:
						return how{hang: true, cut: n(100 * kib)}, nil
					case 2:
						return how{whole: true, cut: n(2) * n(mib)}, nil
					case 3:
						return how{}, busyError(time.Duration(n(3)) * time.Second)
					case 4:
						return how{}, unavailable()
					case 5:
						if r.to-r.from < r.size {
							return how{}, puller.Errorf(puller.ErrRegistryUnavailable, "400: %w", puller.ErrNoRanges)
						}
					case 6:
						return how{delay: time.Duration(n(3000)) * time.Millisecond}, nil
					}
					return how{rate: float64(1 + n(100e3))}, nil
				}
				links = append(links, l)
				works.Go(func() {
					w := fetch.Work{Repository: l, Registry: fmt.Sprint(i)}
					var sinks []*sink
					for b := range 1 + n(4) {
						s := newSink(fmt.Sprint(b), n(3)*n(mib)+n(3))
						if n(10) == 0 && s.size > 0 {
							s.corrupt = 1
						}
						if n(3) == 0 {
							s.want(n(s.size + 1))
						}
						if s.size > 100 && n(3) == 0 {
							s.there = []fetch.Range{{From: 7, To: s.size / 2}}
						}
						sinks, w.Sinks = append(sinks, s), append(w.Sinks, s)
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if n(10) == 0 {
						time.AfterFunc(time.Duration(n(5000))*time.Millisecond, cancel)
					}
					began := time.Now()
					err := f.Fetch(ctx, w)
					if took := time.Since(began); took > 10*time.Minute {
						t.Errorf("it took %s", took)
					}
					if err == nil {
						succeeded.Add(1)
						for _, s := range sinks {
							s.check(t)
						}
					}
				})
			}
			works.Wait()
			for _, l := range links {
				if most := min(o.Connections, o.PerRegistry); l.open != 0 || l.most > most {
					t.Errorf("there were %d connections, and %d are left", l.most, l.open)
				}
			}
		})
	}
	if succeeded.Load() < 60 {
		t.Errorf("only %d works have succeeded", succeeded.Load())
	}
}
