package docker

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

// attach returns what a container prints from now on, until it is closed or ctx
// ends.
//
// The SDK's own attach dials by itself, and so past Options.Dial, TLS and ctx:
// behind an engine that hangs it would wait for ever. net/http hands out a
// connection that was switched to another protocol as the answer's body.
func (e *Engine) attach(ctx context.Context, sdk *client.Client, id string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(callLimit, func() { cancel(errNoAnswer(callLimit)) })
	resp, err := e.upgrade(ctx, sdk, "/containers/"+url.PathEscape(id)+"/attach?stream=1&stdout=1&stderr=1")
	if !late.Stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		if cause != nil {
			err = &unreachable{cause}
		}
		return nil, err
	}
	a := &attached{body: resp.Body, cancel: cancel}
	a.detach = context.AfterFunc(ctx, a.hangUp)
	return a, nil
}

// upgrade makes a call that takes the connection over.
func (e *Engine) upgrade(ctx context.Context, sdk *client.Client, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+"/v"+sdk.ClientVersion()+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	resp, err := e.traced.RoundTrip(req)
	if err != nil {
		return nil, &unreachable{err}
	}
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols, http.StatusOK: // 200 from engines that do not switch, and yet stream
		return resp, nil
	}
	defer resp.Body.Close()
	var said struct{ Message string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&said) != nil || said.Message == "" {
		said.Message = resp.Status
	}
	kinds := map[int]error{
		http.StatusBadRequest: cerrdefs.ErrInvalidArgument, http.StatusNotFound: cerrdefs.ErrNotFound,
		http.StatusConflict: cerrdefs.ErrConflict, http.StatusServiceUnavailable: cerrdefs.ErrUnavailable,
	}
	kind := kinds[resp.StatusCode]
	if kind == nil {
		kind = cerrdefs.ErrUnknown
	}
	return nil, &saidError{said.Message, kind}
}

// attached is a connection that was taken over. net/http does not end it with
// its call's ctx.
type attached struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	detach func() bool
	once   sync.Once
}

func (a *attached) Read(p []byte) (int, error) { return a.body.Read(p) }

// Close ends the stream, also under a Read.
func (a *attached) Close() error {
	a.detach()
	a.hangUp()
	a.cancel(nil)
	return nil
}

func (a *attached) hangUp() { a.once.Do(func() { a.body.Close() }) }

// base returns what addresses of calls begin with, for a host.
func base(host string, secure bool) (string, error) {
	u, err := client.ParseHostURL(host)
	if err != nil {
		return "", err
	}
	switch {
	case u.Scheme == "unix" || u.Scheme == "npipe":
		return "http://" + client.DummyHost, nil
	case secure:
		return "https://" + u.Host + u.Path, nil
	}
	return "http://" + u.Host + u.Path, nil
}

// errNoAnswer is why a call's ctx ends when the engine has taken too long.
func errNoAnswer(limit time.Duration) error {
	return puller.Errorf(puller.ErrEngineUnavailable, "the engine has not answered for %s", limit)
}
