package api

import (
	"context"
	"net"
	"net/http"
)

// callerKey is where a connection's context says who is at its other end.
type callerKey struct{}

func withCaller(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, callerKey{}, peer(c))
}

// caller returns who asks, "" where that is not known: on a unix socket the
// user, as the kernel has it.
func caller(r *http.Request) string {
	name, _ := r.Context().Value(callerKey{}).(string)
	return name
}
