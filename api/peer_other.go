//go:build !linux

package api

import "net"

func peer(net.Conn) string { return "" }
