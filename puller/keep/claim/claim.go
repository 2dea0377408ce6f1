// Package claim keeps those who come to need an image and the collector apart: between its last
// look at an image and the answer of the engine that has removed it, nobody comes to need it.
package claim

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/puller"
)

// Longest is how long a removal is waited for.
const Longest = time.Minute

// Claims has the image that is being removed, and those that somebody is about to need. Images
// are called by their names, in full form, and by their IDs. The zero value has none. A nil
// Claims is for a host where nothing is removed. Its methods may be called from anywhere.
type Claims struct {
	mu       sync.Mutex
	needed   map[string]int // by how many
	removing []string       // what the image is called that is being removed
	removed  chan struct{}  // closed when that has ended
}

// Need keeps images from being removed until release is called. By then what needs them must
// be known to the collector: the lease or the set is kept, or the job is accepted. If one of
// them is being removed, it waits for the end of that: who asks what the engine has between
// Need and release is told the truth. The error is ErrEngineUnavailable, after Longest, or that
// of ctx.
func (c *Claims) Need(ctx context.Context, images []string) (release func(), err error) {
	if c == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, Longest, puller.Errorf(puller.ErrEngineUnavailable, "the engine has been removing one of the images for %s; ask again later", Longest))
	defer cancel()
	for {
		wait := c.need(images)
		if wait == nil {
			return func() { c.drop(images) }, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// need notes images, or returns what ends when they may be noted.
func (c *Claims) need(images []string) (wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(images, func(image string) bool { return slices.Contains(c.removing, image) }) {
		return c.removed
	}
	if c.needed == nil {
		c.needed = make(map[string]int)
	}
	for _, image := range images {
		c.needed[image]++
	}
	return nil
}

func (c *Claims) drop(images []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, image := range images {
		if c.needed[image]--; c.needed[image] == 0 {
			delete(c.needed, image)
		}
	}
}

// Remove claims one image by all that it is called, for a last look at it and its removal.
// ok is false while somebody is about to need it. It is called by one goroutine at a time, and
// not again before release.
func (c *Claims) Remove(called []string) (release func(), ok bool) {
	if c == nil {
		return func() {}, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(called, func(name string) bool { return c.needed[name] > 0 }) {
		return nil, false
	}
	ended := make(chan struct{})
	c.removing, c.removed = called, ended
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.removing, c.removed = nil, nil
		close(ended)
	}, true
}
