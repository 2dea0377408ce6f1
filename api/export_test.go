package api

import (
	"context"
	"net"
)

// Hijacked returns how many connections are taken over from net/http.
func (s *Server) Hijacked() int64 { return s.hijacked.Load() }

// CheckedHead returns what comes of bytes that are read in pieces of a size.
func CheckedHead(p []byte, size int) []byte {
	var h head
	for i := 0; i < len(p); i += size {
		h.check(p[i:min(i+size, len(p))])
	}
	return p
}

// Counted reports whether a connection is found to be one of LimitConnections.
func Counted(c net.Conn) bool {
	return withConnection(context.Background(), c).Value(connectionKey{}) != nil
}
