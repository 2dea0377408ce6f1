// Package docker drives a Docker engine, or another engine with its API, through the
// Docker SDK. It is the only package that imports the SDK, and the only one that knows
// engines' error messages.
package docker

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/docker/docker/api/types/image"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/containers"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream/pullstream"
)

// Engine is a engines.Engine on the Docker SDK.
type Engine struct {
	*containers.Driver
	conn   *transport.Connection
	images images
	dirs   atomic.Pointer[imageDirs] // nil until they are known
}

// Options say where the engine is.
type Options = transport.Options

var _ engines.Engine = (*Engine)(nil)

// New returns an Engine; it does not connect. The error names the option or the
// environment variable that is at fault.
func New(o Options) (*Engine, error) {
	c, err := transport.New(o)
	if err != nil {
		return nil, err
	}
	return &Engine{Driver: containers.New(c), conn: c, images: images{conn: c}}, nil
}

// Close closes idle connections. Calls that are under way go on.
func (e *Engine) Close() error {
	e.conn.CloseIdle()
	return nil
}

// Host returns the engine's address.
func (e *Engine) Host() string { return e.conn.Host() }

// Pull implements engines.Engine.
func (e *Engine) Pull(ctx context.Context, p puller.Pull, each func(pullstream.Message)) error {
	fail := func(err error) error { return e.conn.Classified(ctx, classify.OpPull, p.Image, err) }
	sdk, err := e.conn.Client(ctx)
	if err != nil {
		return fail(err)
	}
	if p.Connected != nil {
		ctx = transport.WithConnected(ctx, p.Connected)
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
			return fail(&classify.StreamError{Err: err})
		}
		if message, failed := m.Failure(); failed && failure == nil {
			failure = fail(&classify.EngineError{Message: message})
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

// Inspect implements engines.Engine.
func (e *Engine) Inspect(ctx context.Context, ref, platform string) (puller.Image, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	return transport.Renegotiated(func() (puller.Image, error) { return e.images.inspect(ctx, ref, platform) })
}
