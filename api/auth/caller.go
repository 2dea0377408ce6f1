package auth

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// Caller is who makes a request, and what they may do.
type Caller struct {
	// Name is "uid:N" for a user on a unix socket, "token:NAME" or "cert:NAME";
	// "" where it is not known.
	Name   string
	Scopes []Scope
	// Rules are those that the token file has for the caller alone.
	Rules puller.Rules

	// Local callers have come by a unix socket: who may write to it may do
	// everything, so there are no limits for them.
	Local bool
}

// may reports whether the caller has a scope.
func (c Caller) may(s Scope) bool {
	return s == Anyone || s == Known || slices.Contains(c.Scopes, s) || slices.Contains(c.Scopes, ScopeAdmin)
}

// Need returns why the caller may not do what asks for a scope, nil if it may. It is
// ErrForbidden.
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

// callerKey is where a context says who is at the other end.
type callerKey struct{}

// WithCaller notes who asks, for CallerOf.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// WithPeer notes who is at the other end of a connection, where the connection
// alone says it: on a unix socket. It is for http.Server.ConnContext.
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

// CallerOf returns who makes a request; ok is false where that is not noted.
func CallerOf(r *http.Request) (c Caller, ok bool) {
	c, ok = r.Context().Value(callerKey{}).(Caller)
	return c, ok
}

// errNobody is for one who shows nothing. It is also read by those who use the
// command line.
var errNobody = puller.Errorf(puller.ErrUnauthorized,
	"no token was shown; send \"Authorization: Bearer TOKEN\" (towline takes it from TOWLINE_TOKEN, or --token)")

// Identify returns who makes a request, by what it shows: a token, a certificate
// that the listener has verified, or a session. tokens is nil for none. The error
// is ErrUnauthorized.
func Identify(r *http.Request, tokens *Tokens, sessions *Sessions) (Caller, error) {
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		return tokens.bearer(shown)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return tokens.certified(r.TLS.PeerCertificates[0].Subject.CommonName)
	}
	return sessions.caller(r, tokens)
}
