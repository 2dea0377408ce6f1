// Package transport makes calls to a Docker engine: it negotiates the API version, limits
// times and sizes, measures every call, and gives errors their kinds.
package transport

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
)

// Connection makes the calls to an engine, with the API version that both have.
type Connection struct {
	host      string
	base      string // the beginning of all call URLs
	transport *http.Transport
	traced    http.RoundTripper
	unpooled  http.RoundTripper // uses a new connection for each call
	opts      []client.Opt
	negotiate bool

	sdk         atomic.Pointer[client.Client] // nil until the API version is known
	negotiating chan struct{}                 // holds one value while a call negotiates it
}

// New returns a connection; it does not connect.
func New(o Options) (*Connection, error) {
	host, transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		o.Log = silent
	}
	tracer, err := newTracer(transport, o)
	if err != nil {
		return nil, err
	}
	once := transport.Clone()
	once.DisableKeepAlives = true
	traced := proxyAnswers{tracer}
	secure := transport.TLSClientConfig != nil || strings.HasPrefix(host, "https://")
	base, err := base(host, secure)
	if err != nil {
		return nil, err
	}
	c := &Connection{host: host, base: base, transport: transport, traced: traced, unpooled: once, negotiate: o.APIVersion == "", negotiating: make(chan struct{}, 1)}
	c.opts = []client.Opt{
		client.WithHost(host),
		client.WithTraceProvider(noop.NewTracerProvider()), // its spans have names of images in their names; tracer has others
		// A new HTTP client for each SDK client, which wraps the transport in place.
		func(sdk *client.Client) error {
			return client.WithHTTPClient(&http.Client{Transport: limitedTransport{traced}, CheckRedirect: client.CheckRedirect})(sdk)
		},
	}
	if secure {
		// The SDK can't see it behind the tracer.
		c.opts = append(c.opts, client.WithScheme("https"))
	}
	if !c.negotiate {
		c.opts = append(c.opts, client.WithVersion(o.APIVersion))
	}
	_, err = client.NewClientWithOpts(c.opts...) // reports invalid options
	return c, err
}

// Client returns the SDK's client, with an API version that engine and SDK both have.
// The SDK's own negotiation holds a lock without regard to ctx: with a frozen engine,
// every call would wait for it.
func (c *Connection) Client(ctx context.Context) (*client.Client, error) {
	if sdk := c.sdk.Load(); sdk != nil {
		return sdk, nil
	}
	select {
	case c.negotiating <- struct{}{}:
		defer func() { <-c.negotiating }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if sdk := c.sdk.Load(); sdk != nil {
		return sdk, nil
	}
	sdk, err := client.NewClientWithOpts(c.opts...)
	if err != nil {
		return nil, err
	}
	if c.negotiate {
		ping, err := sdk.Ping(ctx)
		if err != nil {
			return nil, err
		}
		sdk.NegotiateAPIVersionPing(ping)
	}
	c.sdk.Store(sdk)
	return sdk, nil
}

// Classified gives an error of the SDK its kind. Where the engine may have gone, the next
// call negotiates the API version again: the engine can come back as another version.
func (c *Connection) Classified(ctx context.Context, op, ref string, err error) error {
	gone := client.IsErrConnectionFailed(err)
	err = classify.Error(ctx, op, ref, err)
	if kind := puller.KindOf(err); gone || kind == puller.ErrEngineUnavailable || kind == puller.ErrTruncated {
		c.sdk.Store(nil)
	}
	return err
}

// ClientInTime is Client for calls without a time limit.
func (c *Connection) ClientInTime(ctx context.Context) (*client.Client, error) {
	limit, cancel := WithLimit(ctx, CallLimit)
	defer cancel()
	sdk, err := c.Client(limit)
	if err != nil && ctx.Err() == nil && limit.Err() != nil {
		err = &classify.UnreachableError{Err: context.Cause(limit)}
	}
	return sdk, err
}

// Call makes a call that returns only an error.
func (c *Connection) Call(ctx context.Context, op string, call func(*client.Client) error) error {
	_, err := Renegotiated(func() (struct{}, error) {
		sdk, err := c.Client(ctx)
		if err == nil {
			err = call(sdk)
		}
		if err != nil {
			err = c.Classified(ctx, op, "", err)
		}
		return struct{}{}, err
	})
	return err
}

// Renegotiated makes a call a second time where the engine does not have the API
// version that was negotiated before. The second call negotiates it again.
func Renegotiated[T any](call func() (T, error)) (T, error) {
	v, err := call()
	if puller.KindOf(err) == puller.ErrEngineUnavailable && classify.IsVersionMismatch(err) {
		return call()
	}
	return v, err
}

// WithLimit limits the time of a call that is neither a pull nor a run.
func WithLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, classify.ErrNoAnswer(limit))
}

// SystemInfo asks for the engine's own description of itself.
func (c *Connection) SystemInfo(ctx context.Context) (*client.Client, system.Info, error) {
	sdk, err := c.Client(ctx)
	if err != nil {
		return nil, system.Info{}, c.Classified(ctx, classify.OpInfo, "", err)
	}
	info, err := sdk.Info(ctx)
	if err != nil {
		return nil, system.Info{}, c.Classified(ctx, classify.OpInfo, "", err)
	}
	return sdk, info, nil
}

// HasNewerAPI reports whether the engine was replaced by one with an API version that the
// negotiated one is below. The next call then negotiates it again.
func (c *Connection) HasNewerAPI(ctx context.Context, sdk *client.Client, version string) bool {
	if !c.negotiate || versions.GreaterThanOrEqualTo(sdk.ClientVersion(), version) {
		return false
	}
	ping, err := sdk.Ping(ctx)
	return err == nil && versions.GreaterThanOrEqualTo(ping.APIVersion, version) && c.sdk.CompareAndSwap(sdk, nil)
}

// Host returns the engine's address.
func (c *Connection) Host() string { return c.host }

// CloseIdle closes idle connections. Calls that are under way go on.
func (c *Connection) CloseIdle() { c.transport.CloseIdleConnections() }

// Is reports whether a client is the one that calls are made with now: the engine has not
// gone since.
func (c *Connection) Is(sdk *client.Client) bool { return c.sdk.Load() == sdk }

// Podman is the name of another engine with Docker's API.
const Podman = "Podman"

// IsPodman reports whether an engine's version names Podman.
func IsPodman(version types.Version) bool {
	return slices.ContainsFunc(version.Components, func(c types.ComponentVersion) bool { return strings.Contains(c.Name, Podman) })
}

// FreshClient returns a client that uses a new connection for each call.
func (c *Connection) FreshClient(sdk *client.Client) (*client.Client, error) {
	return client.NewClientWithOpts(append(slices.Clone(c.opts),
		client.WithHTTPClient(&http.Client{Transport: limitedTransport{c.unpooled}, CheckRedirect: client.CheckRedirect}),
		client.WithVersion(sdk.ClientVersion()))...)
}
