package stream

import "sync"

// notifier wakes all goroutines that wait for the next change. Where nobody
// waits it costs next to nothing. Its methods may be called from anywhere.
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

// changes notifies of numbered frames and of layers. Most readers wait for both,
// on one channel: to wait on one more would cost ten thousand readers a tenth of
// what they cost.
type changes struct {
	numbered, all notifier
}

// wait returns what is closed at the next change, or at the next numbered frame.
func (c *changes) wait(layers bool) <-chan struct{} {
	if layers {
		return c.all.wait()
	}
	return c.numbered.wait()
}

// notify is called when there is a numbered frame, and at the end.
func (c *changes) notify() {
	c.numbered.notify()
	c.all.notify()
}
