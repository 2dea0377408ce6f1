package limits

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Requests bounds the requests of each caller a second. It may be used from several
// goroutines.
type Requests struct {
	each int // requests a second

	mu     sync.Mutex
	spent  map[string]*rate.Limiter // of callers of about the last second
	pruned time.Time
}

// NewRequests allows each caller a number of requests a second, and as many at once. 0 is
// without limit.
func NewRequests(each int) *Requests {
	return &Requests{each: each, spent: make(map[string]*rate.Limiter)}
}

// Allow counts a request of a caller. It returns 0 if the request is allowed, and else how
// long the caller should wait before another try.
func (l *Requests) Allow(caller string) time.Duration {
	if l.each <= 0 {
		return 0
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune(now)
	one := l.spent[caller]
	if one == nil {
		one = rate.NewLimiter(rate.Limit(l.each), l.each)
		l.spent[caller] = one
	}
	if one.AllowN(now, 1) {
		return 0
	}
	return time.Second
}

// prune forgets callers whose allowance is full again. It runs once a second at most: an
// allowance needs a second to fill.
func (l *Requests) prune(now time.Time) {
	if now.Sub(l.pruned) < time.Second {
		return
	}
	l.pruned = now
	for caller, one := range l.spent {
		if one.TokensAt(now) >= float64(l.each) {
			delete(l.spent, caller)
		}
	}
}
