package peers_test

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

var large = flag.Bool("peers.large", false, "try 200 and 1,000 hosts too")

// check compares what the registry has sent with the size of the image.
func (c *cluster) check(t *testing.T, most float64) {
	t.Helper()
	sent, asked := c.figures()
	ratio := float64(sent) / float64(c.size())
	t.Logf("%d hosts: the registry has sent %d bytes of an image of %d (%.3f), and %d manifests", len(c.all), sent, c.size(), ratio, asked)
	var fallbacks, refusals float64
	for _, m := range c.all {
		fallbacks += m.metric("fallbacks_total")
		refusals += m.metric("refusals_total")
	}
	t.Logf("%v fallbacks, %v refusals", fallbacks, refusals)
	if ratio > most {
		t.Errorf("the registry has sent %.3f times the image", ratio)
	}
	if asked > 4 {
		t.Errorf("the registry was asked for %d manifests", asked)
	}
}

func TestTrial(t *testing.T) {
	sizes := []int{1 << 20, 1 << 20, 1<<20 + 17, 100}
	for _, c := range []struct {
		name            string
		machines, zones int
		large           bool
	}{{"8", 8, 1, false}, {"8_in_3_zones", 8, 3, false}, {"200", 200, 4, true}, {"1000", 1000, 10, true}} {
		t.Run(c.name, func(t *testing.T) {
			if c.large && !*large {
				t.Skip("without -peers.large")
			}
			synctest.Test(t, func(t *testing.T) {
				all := newCluster(t, newRegistry(sizes...), c.machines, c.zones)
				began := time.Now()
				if err := pullAll(t.Context(), all.all); err != nil {
					t.Fatal(err)
				}
				t.Logf("it took %s", time.Since(began))
				all.check(t, 1.1)
				for _, m := range all.all {
					if took, _ := m.taken(); took < all.size()/2 {
						t.Errorf("%s has taken %d bytes of %d", m.name, took, all.size())
					}
				}
			})
		})
	}
	bubble(t, "late", func(t *testing.T) {
		all := newCluster(t, newRegistry(sizes...), 8, 1)
		for _, m := range all.all { // one after another: the others bring what it asks for
			if err := m.pull(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		all.check(t, 1.01)
	})
}

// The machine that has given most is killed once half of the image has come.
func TestKill(t *testing.T) {
	for _, c := range []struct {
		name     string
		machines int
		restarts bool
	}{{"8", 8, false}, {"8_and_started", 8, true}, {"200", 200, false}, {"200_and_started", 200, true}} {
		t.Run(c.name, func(t *testing.T) {
			if c.machines > 8 && !*large {
				t.Skip("without -peers.large")
			}
			synctest.Test(t, func(t *testing.T) { tryKill(t, c.machines, c.restarts) })
		})
	}
}

func tryKill(t *testing.T, machines int, restarts bool) {
	r := newRegistry(12*chunkSize, 12*chunkSize, 12*chunkSize, 12*chunkSize) // as 50 MB are in real chunks
	r.limiter = rate.NewLimiter(1<<20, 4*kib)                                // slower than the hosts
	half := make(chan struct{})
	r.half = half
	all := newCluster(t, r, machines, 1)
	ended := make(chan error)
	for _, m := range all.all {
		go func() { ended <- m.pull(t.Context()) }()
	}
	<-half
	busiest := all.all[0]
	for _, m := range all.all {
		if m.metric("given_bytes_total") > busiest.metric("given_bytes_total") {
			busiest = m
		}
	}
	busiest.stop()
	if err := <-ended; err == nil {
		t.Errorf("%s has pulled the image, though it was killed", busiest.name)
	}
	before, _ := r.figures()
	t.Logf("%s was killed after %d bytes", busiest.name, before)
	if restarts {
		wait(t.Context(), 300*time.Millisecond)
		busiest.start()
		go func() { ended <- busiest.pull(t.Context()) }()
	} else {
		machines--
	}
	for range machines {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for chunk, n := range r.chunks {
		if n > chunkSize {
			t.Logf("the registry has sent %d bytes of chunk %s", n, chunk)
		}
	}
	all.check(t, 1.05)
}
