package registry

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody bounds what is read of an answer, in bytes: as much as registries
// take of a manifest (OCI distribution specification, "Pushing Manifests").
const maxBody = 4 << 20

// hearing notes what the library does not tell of a registry's answers, and
// bounds them.
type hearing struct {
	next http.RoundTripper
	// wait is how long a registry that refuses asks to be left alone.
	wait atomic.Int64
	// counts is whether the registry tells of a rate limit where it is asked
	// for manifests.
	counts atomic.Bool

	mu     sync.Mutex
	tokens []string // that the registry was shown
}

// shown returns the tokens that the registry was shown.
func (h *hearing) shown() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.tokens)
}

// note keeps the token of a request, if it has one.
func (h *hearing) note(req *http.Request) {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok && !slices.Contains(h.tokens, token) {
		h.tokens = append(h.tokens, token)
	}
}

// RoundTrip implements http.RoundTripper.
func (h *hearing) RoundTrip(req *http.Request) (*http.Response, error) {
	h.note(req)
	resp, err := h.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		h.wait.Store(int64(waitOf(resp.Header, time.Now())))
	}
	if strings.Contains(req.URL.Path, "/manifests/") {
		for _, name := range []string{"RateLimit-Limit", "RateLimit-Remaining", "X-RateLimit-Limit", "X-RateLimit-Remaining"} {
			if resp.Header.Get(name) != "" {
				h.counts.Store(true)
			}
		}
	}
	// Of several ways to log in, the one that is known.
	if ways := resp.Header.Values("WWW-Authenticate"); len(ways) > 1 {
		for _, way := range ways {
			if scheme, _, _ := strings.Cut(strings.ToLower(way), " "); scheme == "bearer" || scheme == "basic" {
				resp.Header.Set("WWW-Authenticate", way)
				break
			}
		}
	}
	resp.Body = &bounded{resp.Body, maxBody}
	return resp, nil
}

// bounded is a body that fails where it goes on after so many bytes.
type bounded struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	// One more, to tell whether there is more.
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if n > b.left {
		return b.left, errHuge
	}
	b.left -= n
	return n, err
}

var errHuge = noImage{fmt.Errorf("it is larger than %d MiB, which is more than registries take", maxBody>>20)}

// longest bounds what is read as a time to wait: above it a Duration would overflow.
const longest = 366 * 24 * time.Hour

// From so much on a number is a moment since 1970, in seconds or in milliseconds,
// and no number of seconds to wait: that would be thirty years.
const (
	leastMoment       = 1_000_000_000
	leastMomentMillis = 1_000_000_000_000
)

// waitOf reads Retry-After (RFC 9110, 10.2.3), or where it is missing the reset
// time that some registries send; 0 where neither is there. Moments are measured
// by the answer's own Date, where it has one: the registry's clock may be another
// than ours.
func waitOf(h http.Header, now time.Time) time.Duration {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	for _, header := range []string{"Retry-After", "X-RateLimit-Reset", "RateLimit-Reset"} {
		v := strings.TrimSpace(h.Get(header))
		if at, err := http.ParseTime(v); err == nil {
			return until(at, now)
		}
		switch n, err := strconv.ParseInt(v, 10, 64); {
		case err != nil || n < 0:
		case n >= leastMomentMillis:
			return until(time.UnixMilli(n), now)
		case n >= leastMoment:
			return until(time.Unix(n, 0), now)
		default:
			return time.Duration(min(n, int64(longest/time.Second))) * time.Second
		}
	}
	return 0
}

// until is the time to wait from now to a moment.
func until(at, now time.Time) time.Duration { return min(max(0, at.Sub(now)), longest) }
