package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/towline/towline/puller/names"
)

// Transport calls registries, directly or through the proxy that the environment names.
// Both ways go through the address filter. It removes credentials from requests that a
// redirect has sent to another host.
type Transport struct {
	filter  *addressFilter
	direct  *http.Transport
	proxied *http.Transport // dials only the proxy
	blobs   *Transport      // nil for one that is for blobs itself
}

func newTransport(f *addressFilter, config *tls.Config) *Transport {
	t := newTransportOf(f, config, newHTTPTransport)
	t.blobs = newTransportOf(f, config, newBlobTransport)
	return t
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func newTransportOf(f *addressFilter, config *tls.Config, build func(dialFunc, *tls.Config) *http.Transport) *Transport {
	t := &Transport{filter: f, direct: build(f.dial, config.Clone())}
	proxy := net.Dialer{Timeout: dialLimit, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return f.check(address, true)
	}}
	t.proxied = build(proxy.DialContext, config.Clone())
	t.proxied.Proxy = http.ProxyFromEnvironment
	return t
}

// headersLimit is how long a server may take to begin its answer.
const headersLimit = 20 * time.Second

func newHTTPTransport(dial dialFunc, config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:           dial,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: headersLimit,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
}

const (
	// blobConnections is how many idle connections a host may have. It is more than
	// anyone uses at once, so that a range rarely needs a new one.
	blobConnections = 64
	// maxBlobHeaders limits the headers of an answer, in bytes.
	maxBlobHeaders = 64 << 10
)

// newBlobTransport returns a transport for many requests at once. It uses HTTP/1.1 only:
// with HTTP/2 all of them would share one connection.
func newBlobTransport(dial dialFunc, config *tls.Config) *http.Transport {
	if config == nil {
		config = &tls.Config{}
	}
	config.NextProtos = []string{"http/1.1"}
	t := newHTTPTransport(dial, config)
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.MaxIdleConnsPerHost = blobConnections
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxBlobHeaders
	return t
}

// Blobs returns the transport that makes many requests to one host at once.
func (t *Transport) Blobs() *Transport { return t.blobs }

func (t *Transport) closeIdle() {
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
	if t.blobs != nil {
		t.blobs.closeIdle()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req, err := withoutCredentials(req)
	if err != nil {
		return nil, err
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil || proxy == nil {
		return t.direct.RoundTrip(req)
	}
	// The proxy looks names up. It could also read a number such as 2130706433 as an
	// address, so that is refused here.
	if _, err := names.CanonicalAddress(req.URL.Host); err != nil {
		closeBody(req)
		return nil, fmt.Errorf("%w: %s", ErrPrivate, req.URL.Hostname())
	}
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		if err := t.filter.checkIP(ip, false); err != nil {
			closeBody(req)
			return nil, fmt.Errorf("%w: %s", err, req.URL.Hostname())
		}
	}
	return t.proxied.RoundTrip(req)
}

// ErrRedirected is why a request was not made.
var ErrRedirected = errors.New("it redirects a request with credentials to another host")

// withoutCredentials removes credentials from a request that a redirect has sent to another
// host, or from TLS to plain HTTP. It refuses a request with credentials in its body.
func withoutCredentials(req *http.Request) (*http.Request, error) {
	for r := req.Response; r != nil && r.Request != nil; r = r.Request.Response {
		from := r.Request
		if from.URL.Scheme == req.URL.Scheme && from.URL.Host == req.URL.Host {
			continue
		}
		if req.Body != nil && req.Body != http.NoBody {
			closeBody(req)
			return nil, ErrRedirected
		}
		for _, name := range []string{"Authorization", "Cookie"} {
			// A value that differs comes from this host itself.
			if v := req.Header.Get(name); v != "" && v == from.Header.Get(name) {
				req = req.Clone(req.Context())
				req.Header.Del(name)
			}
		}
	}
	return req, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
}
