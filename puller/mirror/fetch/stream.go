package fetch

import "time"

// accept reports whether a task goes on that has got the whole blob. Where it asked for a
// part, the registry serves no ranges: this task then brings all of the blob.
func (f *Fetcher) accept(t *task) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.all {
		return true
	}
	if !t.blob.oneStream(t) {
		return false // another task brings all of it
	}
	t.whole, t.at, t.to, t.counted = true, 0, t.blob.size, 0
	return true
}

// noRanges is for a registry that has refused a range.
func (t *task) noRanges(err error) {
	switch {
	case t.all:
		t.blob.work.fail(err) // it also refuses the whole blob
	case t.blob.oneStream(nil):
		t.blob.refill = true
	}
}

// oneStream notes that a registry serves no ranges, and ends the tasks of a blob but one. It
// reports whether nothing else brings all of the blob; if something does, it ends that one
// too.
func (b *blob) oneStream(stays *task) bool {
	b.work.registry.whole = time.Now().Add(wholeFor)
	if b.whole {
		return false
	}
	for _, t := range b.active {
		if t.all && t.partner == nil && t.ctx.Err() == nil { // it goes on, and brings again what was taken over
			t.whole, t.to = true, b.size
			b.stream(t)
			return false
		}
	}
	b.stream(stays)
	return true
}

// restart begins a blob anew, as one stream, once its tasks have ended.
func (b *blob) restart() {
	b.stream(nil)
	b.refill = true
}

// stream ends all tasks but one. The blob is one stream from then on.
func (b *blob) stream(stays *task) {
	b.whole, b.todo = true, nil
	for _, t := range b.active {
		if t != stays {
			t.cancel(errLost)
		}
	}
}
