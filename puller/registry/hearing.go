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

var errHuge = fmt.Errorf("it is larger than %d MiB, which is more than registries take", maxBody>>20)

// longest bounds what is read as a time to wait, in seconds: above it a
// Duration would overflow.
const longest = 366 * 24 * 60 * 60

// waitOf reads Retry-After (RFC 9110, 10.2.3), or where it is missing the reset
// time that some registries send; 0 where neither is there.
func waitOf(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseInt(v, 10, 64); err == nil && s >= 0 {
		return time.Duration(min(s, longest)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	for _, header := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
		s, err := strconv.ParseInt(strings.TrimSpace(h.Get(header)), 10, 64)
		switch {
		case err != nil || s < 0:
		case s > 1_000_000_000: // a moment, in seconds since 1970
			return max(0, time.Unix(s, 0).Sub(now))
		default:
			return time.Duration(min(s, longest)) * time.Second
		}
	}
	return 0
}
