// Package limits bounds what other hosts may ask of a host at a time.
package limits

import (
	"net"
	"net/http"
	"sync"
)

// Shares bound how many requests are answered at a time, in all and of one host. Its methods
// may be called from anywhere.
type Shares struct {
	most, ofOne int

	mu  sync.Mutex
	all int
	of  map[string]int
}

// NewShares returns shares for so many requests in all, and of one host.
func NewShares(most, ofOne int) *Shares {
	return &Shares{most: most, ofOne: ofOne, of: make(map[string]int)}
}

// Take reports whether one more request of a host may be answered.
func (s *Shares) Take(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.most || s.of[host] >= s.ofOne {
		return false
	}
	s.all++
	s.of[host]++
	return true
}

// Give ends a request.
func (s *Shares) Give(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[host]--; s.of[host] == 0 {
		delete(s.of, host)
	}
}

// Listener is a listener that closes connections that are too many.
type Listener struct {
	net.Listener
	most int

	mu    sync.Mutex
	open  int // connections that net/http has
	empty *sync.Cond
}

// NewListener returns a listener that lets so many connections be open. Its Note must be the
// http.Server.ConnState of the server that takes them.
func NewListener(l net.Listener, most int) *Listener {
	all := &Listener{Listener: l, most: most}
	all.empty = sync.NewCond(&all.mu)
	return all
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.admit() {
			return conn, nil
		}
		conn.Close()
	}
}

func (l *Listener) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most {
		return false
	}
	l.open++
	return true
}

// Note is http.Server.ConnState.
func (l *Listener) Note(_ net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open--; l.open == 0 {
		l.empty.Broadcast()
	}
}

// Wait waits for the end of all connections and their requests.
func (l *Listener) Wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open > 0 {
		l.empty.Wait()
	}
}
