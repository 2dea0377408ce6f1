// Package connections has the connections of the daemon: the shares that callers have
// of them, the requests that they refuse, and the time that clients have to read.
package connections

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/towline/towline/api/auth"
)

// NewServer returns a server for the handler, with limits on slow clients. An answer has
// no time limit as a whole, because it may last as long as a pull.
func NewServer(h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:   setTLS(h),
		Protocols: &protocols,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return auth.WithPeer(withConnection(withTLS(ctx, c), c), c)
		},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // more than X-Registry-Auth may have, so that the error names it
	}
}
