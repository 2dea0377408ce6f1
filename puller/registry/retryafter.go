package registry

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter limits a waiting time: a longer one could overflow a Duration.
const maxRetryAfter = 366 * 24 * time.Hour

// A number this large is a time since 1970, in seconds or in milliseconds. As seconds to
// wait it would be thirty years.
const (
	minUnixSeconds = 1_000_000_000
	minUnixMillis  = 1_000_000_000_000
)

// retryAfter returns how long a registry asks to wait, 0 where it does not say: from
// Retry-After (RFC 9110, 10.2.3), or else from the reset time that some registries send.
// A point in time is compared with the answer's Date, where there is one: the registry's
// clock may differ from ours.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	until := func(at time.Time) time.Duration { return min(max(0, at.Sub(now)), maxRetryAfter) }
	for _, header := range []string{"Retry-After", "X-RateLimit-Reset", "RateLimit-Reset"} {
		v := strings.TrimSpace(h.Get(header))
		if at, err := http.ParseTime(v); err == nil {
			return until(at)
		}
		switch n, err := strconv.ParseInt(v, 10, 64); {
		case err != nil || n < 0:
		case n >= minUnixMillis:
			return until(time.UnixMilli(n))
		case n >= minUnixSeconds:
			return until(time.Unix(n, 0))
		default:
			return time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
		}
	}
	return 0
}
