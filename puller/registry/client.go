// Package registry asks registries what an engine can't be asked.
package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/puller"
)

// limit is how long a registry may take for one answer, with the token that
// it may ask for.
const limit = 20 * time.Second

// Client is a puller.Registry. Its methods may be called from anywhere.
type Client struct{ transport *http.Transport }

var _ puller.Registry = (*Client)(nil)

// New returns a Client; it does not connect.
func New() *Client {
	return &Client{&http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: limit,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Head implements puller.Registry. Registries on loopback are called over
// plain HTTP, as engines do; others over HTTPS.
func (c *Client) Head(ctx context.Context, image string, credentials puller.Credentials) (digest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", fault(image, puller.InvalidRequest, err, 0)
	}
	auth, err := authenticator(credentials)
	if err != nil {
		return "", fault(image, puller.InvalidRequest, err, 0)
	}
	heard := &retryAfter{next: c.transport}
	found, err := remote.Head(ref,
		remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(heard),
		// Whether to try again is decided by whoever calls.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryStatusCodes())
	if err != nil {
		return "", fault(image, kindOf(ctx, err), err, time.Duration(heard.wait.Load()))
	}
	return found.Digest.String(), nil
}

func fault(image string, kind puller.Kind, err error, wait time.Duration) error {
	return &puller.Error{Op: "ask the registry for", Ref: image, Kind: kind, RetryAfter: wait, Err: err}
}

func kindOf(ctx context.Context, err error) puller.Kind {
	var answer *transport.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return puller.Canceled
	case !errors.As(err, &answer):
		return puller.RegistryUnavailable
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return puller.Denied
	case http.StatusNotFound:
		return puller.NotFound
	case http.StatusTooManyRequests:
		return puller.RateLimited
	}
	return puller.RegistryUnavailable
}

// authenticator reads credentials as Docker's clients write them (Docker
// Engine API, "Authentication").
func authenticator(c puller.Credentials) (authn.Authenticator, error) {
	if c.Header() == "" {
		return authn.Anonymous, nil
	}
	raw, err := base64.URLEncoding.DecodeString(c.Header())
	if err != nil {
		return nil, errors.New("the credentials are not base64url")
	}
	var a authn.AuthConfig
	// The error is left out: it can quote the secret.
	if json.Unmarshal(raw, &a) != nil {
		return nil, errors.New("the credentials are not a JSON object of strings")
	}
	return authn.FromConfig(a), nil
}

// retryAfter notes how long a registry that refuses asks to wait: the library
// keeps no headers.
type retryAfter struct {
	next http.RoundTripper
	wait atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (r *retryAfter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusTooManyRequests {
		r.wait.Store(int64(waitOf(resp.Header, time.Now())))
	}
	return resp, err
}

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
