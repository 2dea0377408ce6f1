package registry

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

// transport calls registries, directly or through the proxy that the environment names.
// Both ways go through the address filter.
type transport struct {
	filter  *addressFilter
	direct  *http.Transport
	proxied *http.Transport // dials only the proxy
}

func newTransport(f *addressFilter, config *tls.Config) *transport {
	t := &transport{filter: f, direct: newHTTPTransport(f.dial, config)}
	proxy := net.Dialer{Timeout: dialLimit, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return f.check(address, true)
	}}
	t.proxied = newHTTPTransport(proxy.DialContext, config.Clone())
	t.proxied.Proxy = http.ProxyFromEnvironment
	return t
}

func newHTTPTransport(dial func(ctx context.Context, network, address string) (net.Conn, error), config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:           dial,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: limit,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
}

func (t *transport) closeIdle() {
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
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
		return nil, fmt.Errorf("%w: %s", errPrivate, req.URL.Hostname())
	}
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		if err := t.filter.checkIP(ip, false); err != nil {
			closeBody(req)
			return nil, fmt.Errorf("%w: %s", err, req.URL.Hostname())
		}
	}
	return t.proxied.RoundTrip(req)
}

var errRedirected = errors.New("it redirects a request with credentials to another host")

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
			return nil, errRedirected
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
