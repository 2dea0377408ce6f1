// Package retry waits for an engine that does not answer. It is the one place
// that says how long the waits are.
package retry

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
)

const (
	// Least is the first wait between two calls of an engine that does not answer.
	// Each next wait is twice as long, up to Most.
	Least = 100 * time.Millisecond
	Most  = 2 * time.Second
)

// Backoff is the waits between the tries of one call. The zero value waits from
// Least to Most, without a limit. It is for one goroutine.
type Backoff struct {
	Limit time.Duration // how long it waits in all; 0 is without limit
	Most  time.Duration // the longest wait; 0 is the package's Most

	began time.Time
	next  time.Duration
}

// Wait waits before the next try. It returns false if there is to be none: ctx has
// ended, or the limit has passed.
func (b *Backoff) Wait(ctx context.Context) bool {
	if b.began.IsZero() {
		b.began, b.next = time.Now(), Least
	}
	if b.Limit > 0 && time.Since(b.began) >= b.Limit || Sleep(ctx, b.next) != nil {
		return false
	}
	most := b.Most
	if most == 0 {
		most = Most
	}
	b.next = min(2*b.next, most)
	return true
}

// Reset begins anew: the call has gone well for a while.
func (b *Backoff) Reset() { b.began = time.Time{} }

// Engine calls the engine until its answer is another one than
// ErrEngineUnavailable, ctx ends, or limit passes; 0 is without limit. It returns
// the last answer. away, unless it is nil, is called once, before the first wait.
func Engine[T any](ctx context.Context, limit time.Duration, away func(error), call func() (T, error)) (T, error) {
	b := Backoff{Limit: limit}
	for first := true; ; first = false {
		answer, err := call()
		if puller.KindOf(err) != puller.ErrEngineUnavailable {
			return answer, err
		}
		if first && away != nil {
			away(err)
		}
		if !b.Wait(ctx) {
			return answer, err
		}
	}
}

// Sleep waits, or returns why ctx ended.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
