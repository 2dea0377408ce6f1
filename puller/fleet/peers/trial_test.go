package peers_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

var large = flag.Bool("peers.large", false, "try 200 hosts too")

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
	}{{"8", 8, 1, false}, {"8_in_3_zones", 8, 3, false}, {"200", 200, 4, true}} {
		t.Run(c.name, func(t *testing.T) {
			if c.large && !*large {
				t.Skip("without -peers.large")
			}
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
	}
	t.Run("late", func(t *testing.T) {
		all := newCluster(t, newRegistry(sizes...), 8, 1)
		for _, m := range all.all { // one after another: the others bring what it asks for
			if err := m.pull(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		all.check(t, 1.01)
	})
	for _, c := range []struct {
		name     string
		machines int
		large    bool
	}{{"killed_of_8", 8, false}, {"killed_of_200", 200, true}} {
		t.Run(c.name, func(t *testing.T) {
			if c.large && !*large {
				t.Skip("without -peers.large")
			}
			// What the killed host had on its way is lost: some chunks of 160.
			r := newRegistry(6<<20, 4<<20)
			r.limiter = rate.NewLimiter(3<<20, 64<<10) // slower than the hosts
			r.half = make(chan struct{})
			half := r.half
			all := newCluster(t, r, c.machines, 1)
			ended := make(chan error)
			busiest := make(chan *machine, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				<-half
				var most *machine
				for _, m := range all.all {
					if most == nil || m.metric("given_bytes_total") > most.metric("given_bytes_total") {
						most = m
					}
				}
				busiest <- most
				most.stop()
			}()
			for _, m := range all.all {
				go func() { ended <- m.pull(ctx) }()
			}
			failed := 0
			for range all.all {
				if err := <-ended; err != nil {
					if failed++; failed > 1 {
						t.Error(err)
					}
				}
			}
			t.Logf("%s was killed", (<-busiest).name)
			// What the killed host has brought and nobody has taken yet is lost. That is more
			// where the processor is slow, as under the race detector.
			most := 1.25
			if *large {
				most = 1.05
			}
			all.check(t, most)
		})
	}
}
