package auth

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// Caller is the sender of a request.
type Caller struct {
	// Name is "uid:N" for a user on a unix socket, "token:NAME" or "cert:NAME";
	// "" if it is not known.
	Name   string
	Scopes []Scope
	// Rules are the caller's own rules in the token file.
	Rules puller.Rules

	// Local is true on a unix socket. Access to the socket is full access, without
	// limits.
	Local bool
}

// may reports whether the caller has what a scope allows.
func (c Caller) may(s Scope) bool {
	return s == Anyone || s == Known || slices.Contains(c.Scopes, s) || slices.Contains(c.Scopes, ScopeAdmin)
}

// Need returns ErrForbidden if the caller does not have a scope.
func (c Caller) Need(s Scope) error {
	if c.may(s) {
		return nil
	}
	return puller.Errorf(puller.ErrForbidden, "this asks for the scope %q; %s has %s", s, cmp.Or(c.Name, "the caller"), c.list())
}

func (c Caller) list() string {
	words := make([]string, len(c.Scopes))
	for i, s := range c.Scopes {
		words[i] = string(s)
	}
	return cmp.Or(strings.Join(words, ", "), "none")
}

// Stranger returns the name of a caller that is not known: the IPv4 address, or the IPv6
// /64 network, because one party usually has a whole one.
func Stranger(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return "addr:"
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return "addr:"
	}
	address = address.Unmap().WithZone("")
	if address.Is6() {
		network, _ := address.Prefix(64)
		address = network.Addr()
	}
	return "addr:" + address.String()
}

// callerKey is the key of a Caller in a context.
type callerKey struct{}

// WithCaller adds a caller to a context, for CallerOf.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// WithPeer adds the caller of a unix socket's connection to a context. It adds nothing
// for other connections. It is for http.Server.ConnContext.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	for {
		inner, wrapped := c.(interface{ NetConn() net.Conn })
		if !wrapped {
			break
		}
		c = inner.NetConn()
	}
	if socket, ok := c.(*net.UnixConn); ok {
		return WithCaller(ctx, Caller{Name: peer(socket), Scopes: []Scope{ScopeAdmin}, Local: true})
	}
	return ctx
}

// CallerOf returns the caller of a request. ok is false if the context has none.
func CallerOf(r *http.Request) (c Caller, ok bool) {
	c, ok = r.Context().Value(callerKey{}).(Caller)
	return c, ok
}

// errNobody is for a request without a token. The command line shows it too.
var errNobody = puller.Errorf(puller.ErrUnauthorized,
	"no token was shown; send \"Authorization: Bearer TOKEN\" (towline takes it from TOWLINE_TOKEN, or --token)")

// Identify returns the caller of a request. It takes a token first, then a certificate
// that the listener has verified, then a session. tokens is nil if the daemon has no
// token file. The error is ErrUnauthorized.
func Identify(r *http.Request, tokens *Tokens, sessions *Sessions) (Caller, error) {
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		return tokens.bearer(shown)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return tokens.certified(r.TLS.PeerCertificates[0].Subject.CommonName)
	}
	return sessions.caller(r, tokens)
}
