package peers_test

import (
	"testing"
	"testing/synctest"
)

// A host that gets a set asks for its members, and they are not known at once.
func TestStartWithoutMembers(t *testing.T) { synctest.Test(t, tryWithoutMembers) }

func tryWithoutMembers(t *testing.T) {
	r := newRegistry(6 * chunkSize)
	c := newCluster(t, r, 3, 1)
	if err := pullAll(t.Context(), c.all[1:]); err != nil {
		t.Fatal(err)
	}
	before, _ := c.figures()
	members := c.members
	c.mu.Lock()
	c.members = nil
	c.mu.Unlock()
	first := c.all[0]
	if !first.Shares(r.image()) {
		t.Error("the image is not shared")
	}
	ended := make(chan error)
	go func() { ended <- first.pull(t.Context()) }()
	c.mu.Lock()
	c.members = members
	c.mu.Unlock()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if after, _ := c.figures(); after-before > 3*chunkSize {
		t.Errorf("the registry has sent %d bytes more", after-before)
	}
	c.mu.Lock()
	c.members = nil // for good: it is as if there were none
	c.mu.Unlock()
	alone := newCluster(t, newRegistry(chunkSize), 1, 1)
	alone.members = nil
	if err := alone.all[0].pull(t.Context()); err != nil {
		t.Error(err)
	}
}

// Hosts come to know a set one after another.
func TestStart(t *testing.T) { synctest.Test(t, tryStart) }

func tryStart(t *testing.T) {
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
