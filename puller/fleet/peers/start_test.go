package peers_test

import "testing"

// Hosts come to know a set one after another.
func TestStart(t *testing.T) {
	r := newRegistry(20*chunkSize, 4*chunkSize)
	c := newCluster(t, r, 8, 1)
	c.mu.Lock()
	c.strangers = map[string]bool{}
	for _, m := range c.all[1:] {
		c.strangers[m.name] = true
	}
	c.mu.Unlock()
	ended := make(chan error)
	asked := make(chan struct{}, 1)
	for _, m := range c.all[1:] {
		m.asked = asked
	}
	go func() { ended <- c.all[0].pull(t.Context()) }()
	<-asked // by the first one, which it refused
	c.mu.Lock()
	c.strangers = nil
	c.mu.Unlock()
	for _, m := range c.all[1:] {
		go func() { ended <- m.pull(t.Context()) }()
	}
	for range c.all {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	c.check(t, 1.01)
}
