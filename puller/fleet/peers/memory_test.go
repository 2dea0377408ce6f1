package peers_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
)

// bubble runs a subtest in a bubble: no time passes there while anything goes on.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// memory connects machines of a test without open files.
type memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener // by address
}

func (m *memory) listen(address string) net.Listener {
	l := &memoryListener{memoryAddress: memoryAddress(address), conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners[address] = l
	return l
}

func (m *memory) dial(ctx context.Context, _, address string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody listens at " + address)
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// memoryListener implements net.Listener.
type memoryListener struct {
	memoryAddress
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.close()
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.memoryAddress }

// memoryAddress implements net.Addr.
type memoryAddress string

func (memoryAddress) Network() string  { return "memory" }
func (a memoryAddress) String() string { return string(a) }
