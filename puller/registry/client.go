// Package registry asks registries what an engine can't be asked.
package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/singleflight"

	"github.com/towline/towline/puller"
)

// limit is how long a registry may take for one answer, with the token that
// it may ask for.
const limit = 20 * time.Second

// Client is a puller.Registry. Its methods may be called from anywhere.
type Client struct {
	transport *http.Transport
	known     *shelf
	flights   singleflight.Group
}

var _ puller.Registry = (*Client)(nil)

// New returns a Client; it does not connect.
func New() *Client {
	return &Client{known: newShelf(maxKnown), transport: &http.Transport{
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
	v, err := c.visit(image, credentials)
	if err != nil {
		return "", err
	}
	found, err := v.head(ctx)
	if err != nil {
		return "", err
	}
	return found.Digest.String(), nil
}

// visit is what one call asks a registry, with one token for all of it.
type visit struct {
	image       string
	ref         name.Reference
	credentials puller.Credentials
	remote      *remote.Puller
	heard       *hearing
}

func (c *Client) visit(image string, credentials puller.Credentials) (*visit, error) {
	v := &visit{image: image, credentials: credentials, heard: &hearing{next: c.transport}}
	var err error
	if v.ref, err = name.ParseReference(image); err != nil {
		return nil, v.fault(puller.InvalidRequest, err)
	}
	auth, err := authenticator(credentials)
	if err != nil {
		return nil, v.fault(puller.InvalidRequest, err)
	}
	v.remote, err = remote.NewPuller(
		remote.WithAuth(auth), remote.WithTransport(v.heard),
		// Whether to try again is decided by whoever calls.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryStatusCodes())
	if err != nil {
		return nil, v.fault(puller.Internal, err)
	}
	return v, nil
}

// head asks what the reference names now.
func (v *visit) head(ctx context.Context) (*v1.Descriptor, error) {
	found, err := v.remote.Head(ctx, v.ref)
	if err != nil {
		return nil, v.fault(kindOf(ctx, err), err)
	}
	return found, nil
}

func (v *visit) fault(kind puller.Kind, err error) error {
	return &puller.Error{Op: "ask the registry for", Ref: v.image, Kind: kind, RetryAfter: time.Duration(v.heard.wait.Load()), Err: err}
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
