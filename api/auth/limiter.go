package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limiter bounds how many requests a second a caller makes. It is called from
// anywhere.
type Limiter struct {
	each int // requests a second

	mu     sync.Mutex
	spent  map[string]*rate.Limiter // of callers of the last second or so
	pruned time.Time
}

// NewLimiter lets each caller make so many requests a second, and as many at
// once; 0 is without limit.
func NewLimiter(each int) *Limiter {
	return &Limiter{each: each, spent: make(map[string]*rate.Limiter)}
}

// Allow takes in a request of a caller, and returns how long to wait before the
// next try if it is one too many, 0 if it is not.
func (l *Limiter) Allow(caller string) time.Duration {
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

// prune forgets callers that may make as many requests as ones that have made
// none. It looks no more often than once a second, in which they all become so.
func (l *Limiter) prune(now time.Time) {
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

// Stranger is the name of one whose name is not known: the address, of IPv6 the
// network, which is what one party has.
func Stranger(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return "addr:"
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return "addr:"
	}
	address = address.Unmap().WithZone("")
	if address.Is6() {
		network, _ := address.Prefix(64)
		address = network.Addr()
	}
	return "addr:" + address.String()
}
