//go:build !unix

package api

import (
	"errors"
	"net"
)

// quiet returns a connection as it is, and -1: one can't be written to by its
// descriptor here.
func quiet(conn net.Conn) (net.Conn, int) { return conn, -1 }

func tryWrite(int, []byte) (int, error) { return 0, errors.ErrUnsupported }
