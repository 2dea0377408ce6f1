package registry

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towline/towline/puller/registry/manifest"
	"github.com/towline/towline/puller/registry/transport"
)

// maxBody limits an answer's body, in bytes. Registries accept manifests up to this size
// (OCI distribution specification, "Pushing Manifests").
const maxBody = 4 << 20

// maxTokens limits how many tokens are recorded, the latest ones.
const maxTokens = 16

// recorder is the transport of one lookup. It records what the HTTP client does not
// return, and limits the size of answers.
type recorder struct {
	next *transport.Transport // no request is made while it changes
	many bool                 // blobs follow: they use the connections that are made before
	// retryAfter is how long the registry asks to wait, a time.Duration.
	retryAfter atomic.Int64
	// rateLimited says that the registry counts requests for manifests.
	rateLimited atomic.Bool

	mu     sync.Mutex
	tokens []string // that the registry was sent
}

// sentTokens returns the tokens that the registry was sent.
func (r *recorder) sentTokens() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tokens)
}

func (r *recorder) recordToken(req *http.Request) {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok && !slices.Contains(r.tokens, token) {
		r.tokens = append(r.tokens, token)
		r.tokens = r.tokens[max(0, len(r.tokens)-maxTokens):]
	}
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	next := r.next
	if r.many {
		next = next.Blobs()
	}
	resp, err := r.record(next, req)
	if err != nil {
		return nil, err
	}
	resp.Body = &limitedBody{resp.Body, maxBody}
	return resp, nil
}

func (r *recorder) record(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	r.recordToken(req)
	resp, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		r.retryAfter.Store(int64(retryAfter(resp.Header, time.Now())))
	}
	if strings.Contains(req.URL.Path, "/manifests/") {
		for _, name := range []string{"RateLimit-Limit", "RateLimit-Remaining", "X-RateLimit-Limit", "X-RateLimit-Remaining"} {
			if resp.Header.Get(name) != "" {
				r.rateLimited.Store(true)
			}
		}
	}
	// The client reads only the first challenge. Keep one that it knows.
	if challenges := resp.Header.Values("WWW-Authenticate"); len(challenges) > 1 {
		for _, c := range challenges {
			if scheme, _, _ := strings.Cut(strings.ToLower(c), " "); scheme == "bearer" || scheme == "basic" {
				resp.Header.Set("WWW-Authenticate", c)
				break
			}
		}
	}
	return resp, nil
}

// blobTransport is the transport of one lookup for blobs. It does not limit their size.
type blobTransport struct{ *recorder }

// RoundTrip implements http.RoundTripper.
func (t blobTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.record(t.next.Blobs(), req)
}

// limitedBody is a body that fails after this many bytes.
type limitedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	// One more byte tells whether the body goes on.
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if n > b.left {
		return b.left, errTooLarge
	}
	b.left -= n
	return n, err
}

var errTooLarge = manifest.NotImageError{Err: fmt.Errorf("it is larger than %d MiB, which is more than registries accept", maxBody>>20)}
