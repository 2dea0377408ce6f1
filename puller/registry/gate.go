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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/puller/names"
)

// gate is the way to registries, and to where they refer to. Callers choose the
// names, and registries the realms and redirects: none of them is to reach, by
// the daemon's hand, what only the daemon's network can.
type gate struct {
	hosts []string // that may be at private addresses
	nets  []netip.Prefix

	*way            // with the system's authorities
	unverified *way // whoever answers is believed
}

// way is a gate's way to those that are believed for the same reason.
type way struct {
	gate    *gate
	direct  *http.Transport
	proxied *http.Transport // dials only what the environment names as a proxy
}

func (g *gate) newWay(config *tls.Config) *way {
	w := &way{gate: g, direct: newTransport(g.dial)}
	w.proxied = newTransport((&net.Dialer{Timeout: dialLimit, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return g.check(address, true)
	}}).DialContext)
	w.proxied.Proxy = http.ProxyFromEnvironment
	w.direct.TLSClientConfig, w.proxied.TLSClientConfig = config, config.Clone()
	return w
}

func (w *way) close() {
	w.direct.CloseIdleConnections()
	w.proxied.CloseIdleConnections()
}

// newGate returns a gate that lets some private addresses be called: those of
// hosts, addresses, or prefixes such as 10.0.0.0/8.
func newGate(allow []string) (*gate, error) {
	g := &gate{}
	for _, a := range allow {
		if p, err := netip.ParsePrefix(a); err == nil {
			g.nets = append(g.nets, unmapped(p).Masked())
		} else if ip, err := netip.ParseAddr(a); err == nil {
			ip = ip.Unmap()
			g.nets = append(g.nets, netip.PrefixFrom(ip, ip.BitLen()))
		} else if host, err := names.CanonicalAddress(a); err == nil && !strings.ContainsAny(a, ":[]") {
			g.hosts = append(g.hosts, host)
		} else {
			return nil, fmt.Errorf("registries.allow_private: %q is no host, address or prefix; write them as registry.internal, 10.1.2.3 or 10.0.0.0/8", a)
		}
	}
	g.way, g.unverified = g.newWay(nil), g.newWay(&tls.Config{InsecureSkipVerify: true})
	return g, nil
}

// unmapped gives a prefix of IPv4-mapped addresses (RFC 4291, 2.5.5.2) the form
// of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

const dialLimit = 10 * time.Second

func newTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:           dial,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: limit,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
}

func (g *gate) close() {
	g.way.close()
	g.unverified.close()
}

// dial checks the address that a name has led to, which is the one that is
// called: a name that is looked up twice may lead to two.
func (g *gate) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	canonical, err := names.CanonicalAddress(host)
	known := err == nil && slices.Contains(g.hosts, canonical)
	d := net.Dialer{Timeout: dialLimit, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		if err := g.check(address, known); err != nil {
			return fmt.Errorf("%w: %s", err, host)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// RoundTrip implements http.RoundTripper.
func (w *way) RoundTrip(req *http.Request) (*http.Response, error) {
	req, err := plain(req)
	if err != nil {
		return nil, err
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil || proxy == nil {
		return w.direct.RoundTrip(req)
	}
	// A name is looked up by the proxy, whose matter it is then; but some would
	// take a number such as 2130706433 for an address.
	if _, err := names.CanonicalAddress(req.URL.Host); err != nil {
		closeBody(req)
		return nil, fmt.Errorf("%w: %s", errPrivate, req.URL.Hostname())
	}
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		if err := w.gate.checkIP(ip, false); err != nil {
			closeBody(req)
			return nil, fmt.Errorf("%w: %s", err, req.URL.Hostname())
		}
	}
	return w.proxied.RoundTrip(req)
}

// plain takes credentials off that a redirect has brought from another host, or
// from TLS to what anyone may read. Those in a body can't be taken off.
func plain(req *http.Request) (*http.Request, error) {
	for r := req.Response; r != nil && r.Request != nil; r = r.Request.Response {
		from := r.Request
		if from.URL.Scheme == req.URL.Scheme && from.URL.Host == req.URL.Host {
			continue
		}
		if req.Body != nil && req.Body != http.NoBody {
			closeBody(req)
			return nil, errLeads
		}
		for _, name := range []string{"Authorization", "Cookie"} {
			// One of its own, that this host has given, it may have.
			if v := req.Header.Get(name); v != "" && v == from.Header.Get(name) {
				req = req.Clone(req.Context())
				req.Header.Del(name)
			}
		}
	}
	return req, nil
}

var errLeads = errors.New("it redirects a request with credentials to another host")

func closeBody(req *http.Request) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
}

// Why addresses are not called.
var (
	errPrivate  = errors.New("its address is in a private network, which towline calls only where registries.allow_private lists it")
	errMetadata = errors.New("its address is that of a cloud's metadata, which towline never calls")
)

// check is checkIP for what is about to be dialed.
func (g *gate) check(address string, known bool) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w (%s)", errPrivate, address)
	}
	return g.checkIP(to.Addr(), known)
}
