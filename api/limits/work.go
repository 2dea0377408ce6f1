// Package limits bounds what one caller may ask of the daemon at a time.
package limits

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/towline/towline/puller"
)

// Work bounds a costly kind of work: in all, and for each caller, so that a
// caller with much of it does not delay the others.
type Work struct {
	all       *semaphore.Weighted
	perCaller int64
	waiting   int // requests of one caller, those in work included

	mu      sync.Mutex
	callers map[string]*callerWork
}

// callerWork is the work of one caller. It is forgotten when the last request ends.
type callerWork struct {
	limit    *semaphore.Weighted
	requests int
}

// NewComposeFiles returns the limit on Compose files. A file takes less than a second of one core.
func NewComposeFiles() *Work { return newWork(2, 1, 16) }

// NewPlans returns the limit on plans. A plan lists the engine's images, and sends several
// requests at a time to registries and to the engine.
func NewPlans() *Work { return newWork(32, 4, 64) }

// NewAnswers returns the limit on the bytes of large answers that clients have not read yet.
func NewAnswers() *Work { return newWork(64<<20, 16<<20, 1000) }

func newWork(all, perCaller int64, waiting int) *Work {
	return &Work{all: semaphore.NewWeighted(all), perCaller: perCaller, waiting: waiting, callers: make(map[string]*callerWork)}
}

// Acquire waits until a request of the caller may begin, or until ctx ends. The error
// is ErrOverloaded or the cause of ctx. Without an error, the caller of Acquire calls
// release when the work is done.
func (l *Work) Acquire(ctx context.Context, caller string) (release func(), err error) {
	own := l.join(caller)
	if own == nil {
		return nil, Busy()
	}
	if own.limit.Acquire(ctx, 1) != nil {
		l.leave(caller, own)
		return nil, context.Cause(ctx)
	}
	if l.all.Acquire(ctx, 1) != nil {
		own.limit.Release(1)
		l.leave(caller, own)
		return nil, context.Cause(ctx)
	}
	return func() {
		l.all.Release(1)
		own.limit.Release(1)
		l.leave(caller, own)
	}, nil
}

// TryAcquire is Acquire for work of a size, and does not wait.
func (l *Work) TryAcquire(caller string, size int64) (release func(), ok bool) {
	own := l.join(caller)
	if own == nil {
		return nil, false
	}
	size = min(size, l.perCaller) // a larger one may be done alone
	if !own.limit.TryAcquire(size) {
		l.leave(caller, own)
		return nil, false
	}
	if !l.all.TryAcquire(size) {
		own.limit.Release(size)
		l.leave(caller, own)
		return nil, false
	}
	return func() {
		l.all.Release(size)
		own.limit.Release(size)
		l.leave(caller, own)
	}, true
}

// join adds a request of a caller. It returns nil if the caller has too many.
func (l *Work) join(caller string) *callerWork {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.callers[caller]
	if own == nil {
		own = &callerWork{limit: semaphore.NewWeighted(l.perCaller)}
		l.callers[caller] = own
	}
	if own.requests == l.waiting {
		return nil
	}
	own.requests++
	return own
}

func (l *Work) leave(caller string, own *callerWork) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.requests--; own.requests == 0 {
		delete(l.callers, caller)
	}
}

// Busy is the error of a request that would wait too long for its work. Its kind is
// ErrOverloaded.
func Busy() error {
	e := puller.Errorf(puller.ErrOverloaded, "too many Compose files or plans are in work; try again later")
	e.RetryAfter = time.Second
	return e
}
