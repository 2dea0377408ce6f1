package api

import (
	"context"
	"sync"
	"time"

	"github.com/towline/towline/puller"
)

// turns bounds how many requests of a costly kind are worked on at once: of all
// callers, and of each, so that a caller with many of them delays no other one.
type turns struct {
	each    int           // of one caller
	waiting int           // of one caller, those that are worked on included
	working chan struct{} // has an entry for each that is worked on

	mu      sync.Mutex
	callers map[string]*turn // of the callers that have requests here
}

type turn struct {
	working chan struct{} // as in turns
	here    int           // requests that wait or are worked on
}

// newFileTurns is for Compose files. To read one takes less than a second of one
// core.
func newFileTurns() *turns { return newTurns(2, 1, 16) }

// newPlanTurns is for plans, each of which lists the engine's images, and asks
// registries and the engine some times for each of its own.
func newPlanTurns() *turns { return newTurns(32, 4, 64) }

func newTurns(all, each, waiting int) *turns {
	return &turns{each: each, waiting: waiting, working: make(chan struct{}, all), callers: make(map[string]*turn)}
}

// readLimit is how long a Compose file may take, its wait included.
const readLimit = 20 * time.Second

// take waits for the caller's turn, until ctx ends. The error is ErrOverloaded or
// the cause of ctx; without one, done is called when the work is done.
func (t *turns) take(ctx context.Context, caller string) (done func(), err error) {
	t.mu.Lock()
	own := t.callers[caller]
	if own == nil {
		own = &turn{working: make(chan struct{}, t.each)}
		t.callers[caller] = own
	}
	if own.here == t.waiting {
		t.mu.Unlock()
		return nil, errManyTurns()
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
	if err := enter(ctx, own.working); err != nil {
		leave()
		return nil, err
	}
	if err := enter(ctx, t.working); err != nil {
		<-own.working
		leave()
		return nil, err
	}
	return func() {
		<-t.working
		<-own.working
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

func errManyTurns() error {
	e := puller.Errorf(puller.ErrOverloaded, "too many Compose files or plans are being worked on; ask again later")
	e.RetryAfter = time.Second
	return e
}
