package peers_test

import (
	"testing"

	"github.com/towline/towline/puller"
)

// The registry gives nothing to some hosts: the others bring it for them.
func TestDenied(t *testing.T) {
	bubble(t, "some", func(t *testing.T) {
		r := newRegistry(20*chunkSize, 4*chunkSize)
		c := newCluster(t, r, 6, 1)
		r.denied[0], r.denied[3] = true, true
		if err := pullAll(t.Context(), c.all); err != nil {
			t.Fatal(err)
		}
		c.check(t, 1.1)
	})
	bubble(t, "gone", func(t *testing.T) {
		r := newRegistry(20*chunkSize, 4*chunkSize)
		c := newCluster(t, r, 4, 1)
		if err := pullAll(t.Context(), c.all[:3]); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		for i := range c.all {
			r.denied[i] = true
		}
		r.mu.Unlock()
		if err := c.all[3].pull(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	bubble(t, "all", func(t *testing.T) {
		r := newRegistry(2 * chunkSize)
		c := newCluster(t, r, 2, 1)
		for i := range c.all {
			r.denied[i] = true
		}
		if err := c.all[0].pull(t.Context()); puller.KindOf(err) != puller.ErrDenied {
			t.Errorf("it ended with %v", err)
		}
	})
}
