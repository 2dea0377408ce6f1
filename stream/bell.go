package stream

// bell wakes those who wait for what happens next. Its owner's lock guards it.
// Where nobody waits it costs nothing.
type notifier struct{ next chan struct{} }

// wait returns what is closed when the bell rings.
func (b *notifier) wait() <-chan struct{} {
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *notifier) notify() {
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
