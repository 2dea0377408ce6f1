package peers

import (
	"context"
	"errors"
	"sync"
)

// flights have each thing brought once at a time, for all that want it. Its methods may be
// called from anywhere.
type flights struct {
	ctx  context.Context // ends all
	work sync.WaitGroup

	mu  sync.Mutex
	all map[string]*flight
}

// flight is something that is being brought.
type flight struct {
	cancel  context.CancelCauseFunc
	waiting int
	done    chan struct{}
	err     error // after done
}

var errLeft = errors.New("nobody waits for it any more")

// do returns what bring does, or the cause of ctx. Callers with the same key share one call
// of bring, whose context ends when all of them have left.
func (f *flights) do(ctx context.Context, key string, bring func(ctx context.Context) error) error {
	f.mu.Lock()
	one := f.all[key]
	if one == nil {
		if f.ctx.Err() != nil {
			f.mu.Unlock()
			return context.Cause(f.ctx)
		}
		one = &flight{done: make(chan struct{})}
		var flying context.Context
		flying, one.cancel = context.WithCancelCause(f.ctx)
		f.all[key] = one
		f.work.Go(func() {
			err := bring(flying)
			one.cancel(nil)
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.all[key] == one {
				delete(f.all, key)
			}
			one.err = err
			close(one.done)
		})
	}
	one.waiting++
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.waiting--; one.waiting == 0 {
		one.cancel(errLeft)
		if f.all[key] == one {
			delete(f.all, key) // who comes now begins anew
		}
	}
	return context.Cause(ctx)
}
