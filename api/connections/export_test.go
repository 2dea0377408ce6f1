package connections

import (
	"context"
	"net"
)

// CheckedHead returns what comes of bytes that are read in pieces of a size.
func CheckedHead(p []byte, size int) []byte {
	var h head
	for i := 0; i < len(p); i += size {
		h.check(p[i:min(i+size, len(p))])
	}
	return p
}

// Counted reports whether a connection is found to be one of Limit.
func Counted(c net.Conn) bool {
	return withConnection(context.Background(), c).Value(connectionKey{}) != nil
}
