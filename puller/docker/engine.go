// Package docker drives a Docker engine, or what speaks its API, through the
// Docker SDK. It is the only package that imports the SDK, and the only one
// that knows engines' words for errors.
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
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// Engine is a puller.Engine on the Docker SDK.
type Engine struct {
	host      string
	base      string // what addresses of calls begin with
	transport *http.Transport
	traced    http.RoundTripper
	fresh     http.RoundTripper // with a new connection for each call
	opts      []client.Opt
	negotiate bool
	sdk       atomic.Pointer[client.Client] // nil until the API version is known
	turn      chan struct{}                 // of whoever negotiates it
	log       atomic.Pointer[logging]       // nil until it was asked for
	own       atomic.Pointer[platformOfEngine]
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
	traced := gateway{tracer}
	secure := transport.TLSClientConfig != nil || strings.HasPrefix(host, "https://")
	base, err := base(host, secure)
	if err != nil {
		return nil, err
	}
	e := &Engine{host: host, base: base, transport: transport, traced: traced, fresh: once, negotiate: o.APIVersion == "", turn: make(chan struct{}, 1)}
	e.opts = []client.Opt{
		client.WithHost(host),
		// One of its own for each SDK client, which wraps the transport in place.
		func(c *client.Client) error {
			return client.WithHTTPClient(&http.Client{Transport: bounded{traced}, CheckRedirect: client.CheckRedirect})(c)
		},
	}
	if secure {
		// The SDK can't see it behind the tracer.
		e.opts = append(e.opts, client.WithScheme("https"))
	}
	if !e.negotiate {
		e.opts = append(e.opts, client.WithVersion(o.APIVersion))
	}
	_, err = client.NewClientWithOpts(e.opts...) // for what is wrong with the options
	return e, err
}

// client returns the SDK's client, with the API version that engine and SDK
// both speak. The SDK would negotiate it by itself, but holds a lock meanwhile
// that knows no ctx: behind an engine that hangs, every call would.
func (e *Engine) client(ctx context.Context) (*client.Client, error) {
	if sdk := e.sdk.Load(); sdk != nil {
		return sdk, nil
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
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

// fault gives an error of the SDK its kind. After an error that an engine which
// went away may be behind, the API version is negotiated anew: it can come back
// as another version.
func (e *Engine) fault(ctx context.Context, op, ref string, err error) error {
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

// Host returns the address that the engine is called at.
func (e *Engine) Host() string { return e.host }

// Pull implements puller.Engine.
func (e *Engine) Pull(ctx context.Context, p puller.Pull, each func(pullstream.Message)) error {
	fault := func(err error) error { return e.fault(ctx, "pull", p.Image, err) }
	sdk, err := e.client(ctx)
	if err != nil {
		return fault(err)
	}
	if p.Connected != nil {
		ctx = context.WithValue(ctx, connectionKey{}, p.Connected)
	}
	body, err := sdk.ImagePull(ctx, p.Image, image.PullOptions{Platform: p.Platform, RegistryAuth: p.Credentials.HeaderFor(p.Image)})
	if err != nil {
		return fault(err)
	}
	// Closing a body that was not read to its end closes its connection, and
	// with it the engine's pull.
	defer body.Close()
	decoder := pullstream.NewDecoder(body, 0)
	var failure error
	for {
		m, err := decoder.Next()
		switch {
		case errors.Is(err, io.EOF):
			return failure
		case err != nil && failure != nil:
			// The engine has said what is wrong; how it hung up adds nothing.
			return failure
		case err != nil:
			return fault(&streamError{err})
		}
		if message, failed := m.Failure(); failed && failure == nil {
			failure = fault(&engineError{message})
		}
		each(m)
	}
}

// renegotiated makes a call once more where the engine has become one that does
// not have the API version that was negotiated: fault has seen to a new one.
func renegotiated[T any](call func() (T, error)) (T, error) {
	v, err := call()
	if puller.KindOf(err) == puller.ErrEngineUnavailable && strings.Contains(err.Error(), "client version") {
		return call()
	}
	return v, err
}

// limited bounds a call that does not last as long as a pull or a container.
func limited(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, errNoAnswer(limit))
}

// Info implements puller.Engine.
func (e *Engine) Info(ctx context.Context) (puller.EngineInfo, error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	return renegotiated(func() (puller.EngineInfo, error) { return e.info(ctx) })
}

func (e *Engine) info(ctx context.Context) (puller.EngineInfo, error) {
	sdk, err := e.client(ctx)
	if err != nil {
		return puller.EngineInfo{}, e.fault(ctx, "ask the engine", "", err)
	}
	version, err := sdk.ServerVersion(ctx)
	if err != nil {
		return puller.EngineInfo{}, e.fault(ctx, "ask the engine", "", err)
	}
	info, err := sdk.Info(ctx)
	if err != nil {
		return puller.EngineInfo{}, e.fault(ctx, "ask the engine", "", err)
	}
	found := puller.EngineInfo{
		Name:       "Docker Engine",
		Version:    version.Version,
		APIVersion: sdk.ClientVersion(),
		ImageStore: imageStore(info),
		Reachable:  true,
	}
	if version.Os == "windows" {
		found.OSVersion = info.OSVersion
	}
	if version.Os != "" && version.Arch != "" {
		found.Platform = version.Os + "/" + version.Arch
	}
	for _, c := range version.Components {
		if strings.Contains(c.Name, "Podman") {
			found.Name = podman
		}
	}
	return found, nil
}

// podman is the name of an engine that speaks Docker's API and is none.
const podman = "Podman"

// InsecureRegistries returns the hosts, addresses and prefixes of registries that
// the engine calls without TLS that proves who they are. The error is classified.
func (e *Engine) InsecureRegistries(ctx context.Context) ([]string, error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	sdk, err := e.client(ctx)
	if err != nil {
		return nil, e.fault(ctx, "ask the engine", "", err)
	}
	info, err := sdk.Info(ctx)
	if err != nil {
		return nil, e.fault(ctx, "ask the engine", "", err)
	}
	if info.RegistryConfig == nil {
		return nil, nil
	}
	var list []string
	for _, prefix := range info.RegistryConfig.InsecureRegistryCIDRs {
		if prefix != nil {
			list = append(list, prefix.String())
		}
	}
	for name, index := range info.RegistryConfig.IndexConfigs {
		if index != nil && !index.Secure && !index.Official {
			list = append(list, name)
		}
	}
	return list, nil
}

func imageStore(info system.Info) string {
	for _, pair := range info.DriverStatus {
		if pair[0] == "driver-type" && pair[1] == "io.containerd.snapshotter.v1" {
			return "containerd"
		}
	}
	return info.Driver
}
