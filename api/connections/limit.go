package connections

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

// Limit returns a listener with a limit on its open connections. The
// connections are for NewServer, also below crypto/tls and CheckHeads.
//
// A TCP connection is a stranger's until a request on it shows who the caller is. An
// address (of IPv6, a /64 network) may have a quarter of the limit as a stranger.
// Where the limit is reached, a new connection closes the oldest one of a stranger.
// A caller may have half of the limit. A sixteenth is for callers with the scope
// admin only. If no connection is a stranger's, new ones wait in the kernel's queue.
//
// All connections of a unix socket are known. Only the limit is for them.
func Limit(l net.Listener, limit int) net.Listener {
	c := &connections{
		Listener: l, limit: limit,
		perAddress: (limit + 3) / 4, perCaller: (limit + 1) / 2, reserve: limit / 16,
		addresses: make(map[string]int), callers: make(map[string]int),
	}
	c.room.L = &c.mu
	return c
}

type connections struct {
	net.Listener
	limit, perAddress, perCaller, reserve int

	mu        sync.Mutex
	room      sync.Cond // tells that a connection was closed
	closed    bool
	open      int
	strangers list.List      // of *connection, the oldest first
	addresses map[string]int // strangers' connections by address
	callers   map[string]int // known callers' connections by name
	reserved  int            // connections of callers with the scope admin
}

// connection is one connection of a limited listener.
type connection struct {
	net.Conn
	of *connections

	// The lock of the listener guards the rest.
	closed   bool
	address  string
	stranger *list.Element // nil if the caller is known
	caller   string
	admin    bool
}

func (c *connections) Accept() (net.Conn, error) {
	for {
		if err := c.wait(); err != nil {
			return nil, err
		}
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if conn := c.add(conn); conn != nil {
			return conn, nil
		}
	}
}

// wait waits until there is room for a connection.
func (c *connections) wait() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && c.open >= c.limit && c.strangers.Len() == 0 {
		c.room.Wait()
	}
	if c.closed {
		return net.ErrClosed
	}
	return nil
}

// add counts a new connection. It returns nil if it has closed the connection, because
// the address has its share.
func (c *connections) add(conn net.Conn) net.Conn {
	added := &connection{Conn: conn, of: c}
	if conn.RemoteAddr().Network() != "unix" {
		added.address = auth.Stranger(conn.RemoteAddr().String())
	}
	c.mu.Lock()
	var surplus net.Conn
	switch {
	case added.address == "":
		added.admin = true
	case c.addresses[added.address] >= c.perAddress:
		c.mu.Unlock()
		abort(conn)
		return nil
	}
	if oldest := c.strangers.Front(); c.open >= c.limit && oldest != nil {
		other := oldest.Value.(*connection)
		c.remove(other)
		surplus = other.Conn
	}
	c.open++
	if added.admin {
		c.reserved++
	} else {
		added.stranger = c.strangers.PushBack(added)
		c.addresses[added.address]++
	}
	c.mu.Unlock()
	if surplus != nil {
		abort(surplus)
	}
	return added
}

// abort closes a connection without a wait for its client.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// remove gives back what a connection counts for. The caller holds the lock.
func (c *connections) remove(one *connection) {
	if one.closed {
		return
	}
	one.closed = true
	c.open--
	c.forget(one)
	c.room.Signal()
}

// forget gives back the share that a connection has a part in. The caller holds the
// lock.
func (c *connections) forget(one *connection) {
	if one.stranger != nil {
		c.strangers.Remove(one.stranger)
		one.stranger = nil
		decrease(c.addresses, one.address)
		return
	}
	if one.admin {
		c.reserved--
	}
	if one.caller != "" {
		decrease(c.callers, one.caller)
	}
}

func decrease(counts map[string]int, name string) {
	if counts[name]--; counts[name] == 0 {
		delete(counts, name)
	}
}

// Close implements net.Listener.
func (c *connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.room.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// admit is Admit.
func (one *connection) admit(who auth.Caller) error {
	c := one.of
	admin := who.Need(auth.ScopeAdmin) == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case one.closed, one.stranger == nil && one.caller == who.Name && one.admin == admin:
		return nil
	case c.callers[who.Name] >= c.perCaller && one.caller != who.Name:
		return manyConnections("the caller has %d connections, half of what the daemon takes (limits.connections); close some, or ask again later", c.perCaller)
	}
	others := c.open - c.strangers.Len() - c.reserved
	if one.stranger == nil && !one.admin {
		others-- // without this connection
	}
	if !admin && others >= c.limit-c.reserve {
		return manyConnections("callers have %d connections, and the rest of what the daemon takes (limits.connections) is for callers with the scope admin; ask again later", others)
	}
	c.forget(one)
	one.caller, one.admin = who.Name, admin
	c.callers[who.Name]++
	if admin {
		c.reserved++
	}
	return nil
}

func manyConnections(format string, args ...any) error {
	e := puller.Errorf(puller.ErrOverloaded, format, args...)
	e.RetryAfter = time.Second
	return e
}

// Close implements net.Conn.
func (one *connection) Close() error {
	one.of.mu.Lock()
	one.of.remove(one)
	one.of.mu.Unlock()
	return one.Conn.Close()
}

// NetConn returns the connection that is counted.
func (one *connection) NetConn() net.Conn { return one.Conn }

// CloseWrite lets the server end an answer before it has read the whole request.
func (one *connection) CloseWrite() error {
	if half, ok := one.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

type connectionKey struct{}

// withConnection notes the counted connection under c, for Admit.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	for {
		if one, ok := c.(*connection); ok {
			return context.WithValue(ctx, connectionKey{}, one)
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return ctx
		}
		c = inner.NetConn()
	}
}

// Admit counts the connection of a request for the caller of the request. If the error
// is ErrOverloaded, the connection still counts for the caller before. A request whose
// connection is not counted has no error.
func Admit(r *http.Request, who auth.Caller) error {
	if one, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		return one.admit(who)
	}
	return nil
}
