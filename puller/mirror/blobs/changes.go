package blobs

import (
	"context"
	"sync"
)

// changes wakes those that wait for a change of what a lock guards. It is used with the
// lock held.
type changes struct {
	next chan struct{} // closed at the next change; nil if nobody waits for it
}

func (c *changes) notify() {
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// wait waits for a change. The lock is not held meanwhile.
func (c *changes) wait(ctx context.Context, lock sync.Locker) error {
	if c.next == nil {
		c.next = make(chan struct{})
	}
	next := c.next
	lock.Unlock()
	defer lock.Lock()
	select {
	case <-next:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
