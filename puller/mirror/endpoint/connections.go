package endpoint

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// mostConnections is how many connections are served at a time. An engine has few.
const mostConnections = 256

// connections is a listener that accepts clients on this machine only, and a bounded
// number of them. At the limit, the connection goes that has been without a request for
// longest; if all have one, the new connection goes. So a process that only holds
// connections can't keep the engine out.
type connections struct {
	net.Listener

	mu    sync.Mutex
	idle  map[net.Conn]uint64 // connections without a request, with the order in which they became so
	busy  map[net.Conn]bool
	order uint64
	open  int // connections that net/http has, also those that were closed here
	empty *sync.Cond
}

func newConnections(l net.Listener) *connections {
	c := &connections{Listener: l, idle: map[net.Conn]uint64{}, busy: map[net.Conn]bool{}}
	c.empty = sync.NewCond(&c.mu)
	return c
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if isLocal(conn.RemoteAddr()) && c.admit(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

// isLocal reports whether a client is on this machine.
func isLocal(address net.Addr) bool {
	at, err := netip.ParseAddrPort(address.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// admit reports whether there is room for a connection, and makes some.
func (c *connections) admit(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle)+len(c.busy) >= mostConnections {
		var oldest net.Conn
		for other, order := range c.idle {
			if oldest == nil || order < c.idle[oldest] {
				oldest = other
			}
		}
		if oldest == nil {
			return false
		}
		oldest.Close()
		delete(c.idle, oldest)
	}
	c.open++
	c.order++
	c.idle[conn] = c.order
	return true
}

// note is http.Server.ConnState.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateActive:
		delete(c.idle, conn)
		c.busy[conn] = true
	case http.StateIdle:
		delete(c.busy, conn)
		c.order++
		c.idle[conn] = c.order
	case http.StateClosed:
		delete(c.idle, conn)
		delete(c.busy, conn)
		if c.open--; c.open == 0 {
			c.empty.Broadcast()
		}
	}
}

// wait waits for the end of all connections.
func (c *connections) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open > 0 {
		c.empty.Wait()
	}
}
