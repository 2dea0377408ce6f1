// Package waiting is how readers wait for what comes next: for a change, and until some
// time. It imports the standard library only.
package waiting

import "sync"

// Changes tells readers of numbered frames and of layers. Most readers wait for both,
// on one channel: to wait on one more would cost ten thousand readers a tenth of
// what they cost. Its methods may be called from anywhere.
type Changes struct {
	numbered, all notifier
}

// Wait returns what is closed at the next numbered frame, and, if the reader waits for
// layers too, at the next layer.
func (c *Changes) Wait(layers bool) <-chan struct{} {
	if layers {
		return c.all.wait()
	}
	return c.numbered.wait()
}

// Numbered is called when there is a numbered frame, and at the end.
func (c *Changes) Numbered() {
	c.numbered.notify()
	c.all.notify()
}

// Layers is called when there are new layers.
func (c *Changes) Layers() { c.all.notify() }

// notifier wakes all goroutines that wait for the next change. Where nobody
// waits it costs next to nothing.
type notifier struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns what the next call of notify closes.
func (n *notifier) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}
