package stream

// notifier wakes all goroutines that wait for the next change. Its owner's lock
// guards it. Where nobody waits it costs nothing.
type notifier struct{ next chan struct{} }

// wait returns what the next call of notify closes.
func (n *notifier) wait() <-chan struct{} {
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

func (n *notifier) notify() {
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}
