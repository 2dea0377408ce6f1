// Package docker drives a Docker engine, or another engine with its API, through the
// Docker SDK. It is the only package that imports the SDK, and the only one that knows
// engines' error messages.
package docker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream/pullstream"
)

// Engine is a puller.Engine on the Docker SDK.
type Engine struct {
	host      string
	base      string // the beginning of all call URLs
	transport *http.Transport
	traced    http.RoundTripper
	unpooled  http.RoundTripper // uses a new connection for each call
	opts      []client.Opt
	negotiate bool

	sdk         atomic.Pointer[client.Client] // nil until the API version is known
	negotiating chan struct{}                 // holds one value while a call negotiates it
	log         atomic.Pointer[logging]       // nil until it is known
	own         atomic.Pointer[enginePlatform]
}

var _ puller.Engine = (*Engine)(nil)

// New returns an Engine; it does not connect. The error names the option or
// the environment variable that is at fault.
func New(o Options) (*Engine, error) {
	host, transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		o.Log = silent
	}
	tracer, err := newTracer(transport, o.Log, o.Metrics)
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
	e := &Engine{host: host, base: base, transport: transport, traced: traced, unpooled: once, negotiate: o.APIVersion == "", negotiating: make(chan struct{}, 1)}
	e.opts = []client.Opt{
		client.WithHost(host),
		// A new one for each SDK client, which wraps the transport in place.
		func(c *client.Client) error {
			return client.WithHTTPClient(&http.Client{Transport: limitedTransport{traced}, CheckRedirect: client.CheckRedirect})(c)
		},
	}
	if secure {
		// The SDK can't see it behind the tracer.
		e.opts = append(e.opts, client.WithScheme("https"))
	}
	if !e.negotiate {
		e.opts = append(e.opts, client.WithVersion(o.APIVersion))
	}
	_, err = client.NewClientWithOpts(e.opts...) // reports invalid options
	return e, err
}

// client returns the SDK's client, with an API version that engine and SDK both have.
// The SDK's own negotiation holds a lock without regard to ctx: with a frozen engine,
// every call would wait for it.
func (e *Engine) client(ctx context.Context) (*client.Client, error) {
	if sdk := e.sdk.Load(); sdk != nil {
		return sdk, nil
	}
	select {
	case e.negotiating <- struct{}{}:
		defer func() { <-e.negotiating }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if sdk := e.sdk.Load(); sdk != nil {
		return sdk, nil
	}
	sdk, err := client.NewClientWithOpts(e.opts...)
	if err != nil {
		return nil, err
	}
	if e.negotiate {
		ping, err := sdk.Ping(ctx)
		if err != nil {
			return nil, err
		}
		sdk.NegotiateAPIVersionPing(ping)
	}
	e.sdk.Store(sdk)
	return sdk, nil
}

// classified gives an error of the SDK its kind. Where the engine may have gone, the next
// call negotiates the API version again: the engine can come back as another version.
func (e *Engine) classified(ctx context.Context, op, ref string, err error) error {
	gone := client.IsErrConnectionFailed(err)
	err = classify(ctx, op, ref, err)
	if kind := puller.KindOf(err); gone || kind == puller.ErrEngineUnavailable || kind == puller.ErrTruncated {
		e.sdk.Store(nil)
	}
	return err
}

// Close closes idle connections. Calls that are under way go on.
func (e *Engine) Close() error {
	e.transport.CloseIdleConnections()
	return nil
}

// Host returns the engine's address.
func (e *Engine) Host() string { return e.host }

// Pull implements puller.Engine.
func (e *Engine) Pull(ctx context.Context, p puller.Pull, each func(pullstream.Message)) error {
	fail := func(err error) error { return e.classified(ctx, opPull, p.Image, err) }
	sdk, err := e.client(ctx)
	if err != nil {
		return fail(err)
	}
	if p.Connected != nil {
		ctx = context.WithValue(ctx, connectionKey{}, p.Connected)
	}
	body, err := sdk.ImagePull(ctx, p.Image, image.PullOptions{Platform: p.Platform, RegistryAuth: p.Credentials.HeaderFor(p.Image)})
	if err != nil {
		return fail(err)
	}
	// Closing a body before its end closes the connection, which ends the engine's pull.
	defer body.Close()
	decoder := pullstream.NewDecoder(body, 0)
	var failure error
	for {
		m, err := decoder.Next()
		switch {
		case errors.Is(err, io.EOF):
			return failure
		case err != nil && failure != nil:
			// The engine has said what is wrong. How the stream ended adds nothing.
			return failure
		case err != nil:
			return fail(&streamError{err})
		}
		if message, failed := m.Failure(); failed && failure == nil {
			failure = fail(&engineError{message})
		}
		each(withoutURLQueries(m))
	}
}

// withoutURLQueries hides the query strings of URLs in a message: they can be signed.
func withoutURLQueries(m pullstream.Message) pullstream.Message {
	m.Status, m.Error = redact.URLQueries(m.Status), redact.URLQueries(m.Error)
	if m.ErrorDetail != nil {
		detail := *m.ErrorDetail
		detail.Message = redact.URLQueries(detail.Message)
		m.ErrorDetail = &detail
	}
	return m
}

// withRenegotiation makes a call a second time where the engine does not have the API
// version that was negotiated before. The second call negotiates it again.
func withRenegotiation[T any](call func() (T, error)) (T, error) {
	v, err := call()
	if puller.KindOf(err) == puller.ErrEngineUnavailable && isVersionMismatch(err) {
		return call()
	}
	return v, err
}

// withLimit limits the time of a call that is neither a pull nor a run.
func withLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, errNoAnswer(limit))
}
