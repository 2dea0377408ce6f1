package api

import (
	"context"
	"sync"
	"time"

	"github.com/towline/towline/puller"
)

// Limits of the Compose files that are read at once. One takes less than a
// second of one core.
const (
	maxReading = 2                // of all callers
	maxWaiting = 16               // of one caller, the one that is read included
	readLimit  = 20 * time.Second // for one file, its wait included
)

// turns lets few Compose files be read at a time, and one at a time of each
// caller, so that a caller with many of them delays no other one.
type turns struct {
	reading chan struct{} // has an entry for each file that is being read

	mu      sync.Mutex
	callers map[string]*turn // of the callers that have files here
}

type turn struct {
	reading chan struct{} // as in turns
	here    int           // files that wait or are read
}

func newTurns() *turns {
	return &turns{reading: make(chan struct{}, maxReading), callers: make(map[string]*turn)}
}

// take waits for the caller's turn, until ctx ends. The error is Overloaded or
// the cause of ctx; without one, done is called when the file has been read.
func (t *turns) take(ctx context.Context, caller string) (done func(), err error) {
	t.mu.Lock()
	own := t.callers[caller]
	if own == nil {
		own = &turn{reading: make(chan struct{}, 1)}
		t.callers[caller] = own
	}
	if own.here == maxWaiting {
		t.mu.Unlock()
		return nil, errManyFiles()
	}
	own.here++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.here--; own.here == 0 {
			delete(t.callers, caller)
		}
	}
	if err := enter(ctx, own.reading); err != nil {
		leave()
		return nil, err
	}
	if err := enter(ctx, t.reading); err != nil {
		<-own.reading
		leave()
		return nil, err
	}
	return func() {
		<-t.reading
		<-own.reading
		leave()
	}, nil
}

func enter(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func errManyFiles() error {
	e := puller.Errorf(puller.Overloaded, "too many Compose files are being read; send this one again later")
	e.RetryAfter = time.Second
	return e
}
