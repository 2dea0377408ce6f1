package transport

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/docker/docker/client"
	"github.com/towline/towline/puller/docker/classify"
)

// Attach returns a container's output from now on. The stream ends with Close or with
// ctx.
//
// The SDK's own attach dials without Options.Dial, TLS and ctx, so it would wait for a
// frozen engine without end. net/http returns a connection that was switched to another
// protocol as the answer's body.
func (c *Connection) Attach(ctx context.Context, sdk *client.Client, id string) (io.ReadCloser, error) {
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"tcp"}}
	return c.Stream(ctx, sdk, http.MethodPost, "/containers/"+url.PathEscape(id)+"/attach?stream=1&stdout=1&stderr=1", header)
}

// Stream makes a call whose answer is a stream. It ends with Close or with ctx. The engine
// may take CallLimit until it begins.
func (c *Connection) Stream(ctx context.Context, sdk *client.Client, method, path string, header http.Header) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(CallLimit, func() { cancel(classify.ErrNoAnswer(CallLimit)) })
	resp, err := c.open(ctx, sdk, method, path, header)
	if !late.Stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		if cause != nil {
			err = &classify.UnreachableError{Err: cause}
		}
		return nil, err
	}
	a := &attached{body: resp.Body, cancel: cancel}
	a.detach = context.AfterFunc(ctx, a.closeBody)
	return a, nil
}

// open makes a call without the SDK and returns the answer, unless it is a refusal.
func (c *Connection) open(ctx context.Context, sdk *client.Client, method, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/v"+sdk.ClientVersion()+path, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := c.traced.RoundTrip(req)
	if err != nil {
		return nil, &classify.UnreachableError{Err: err}
	}
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols, http.StatusOK: // some engines answer 200 and stream without a switch
		return resp, nil
	}
	defer resp.Body.Close()
	var answer struct{ Message string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer) != nil || answer.Message == "" {
		answer.Message = resp.Status
	}
	return nil, &classify.MessageError{Message: answer.Message, Err: errhttp.ToNative(resp.StatusCode)}
}

// attached is a stream of an engine. net/http does not close one of a connection that was
// switched when the call's ctx ends.
type attached struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	detach func() bool
	once   sync.Once
}

func (a *attached) Read(p []byte) (int, error) { return a.body.Read(p) }

// Close ends the stream, also during a Read.
func (a *attached) Close() error {
	a.detach()
	a.closeBody()
	a.cancel(nil)
	return nil
}

func (a *attached) closeBody() { a.once.Do(func() { a.body.Close() }) }

// base returns the beginning of all call URLs for a host.
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
