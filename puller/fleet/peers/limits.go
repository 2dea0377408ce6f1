package peers

import (
	"net"
	"net/http"
	"sync"
)

// shares bound how many requests are answered at a time, in all and of one host. Its methods
// may be called from anywhere.
type shares struct {
	most, ofOne int

	mu  sync.Mutex
	all int
	of  map[string]int
}

// take reports whether one more request of a host may be answered.
func (s *shares) take(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.most || s.of[host] >= s.ofOne {
		return false
	}
	if s.of == nil {
		s.of = make(map[string]int)
	}
	s.all++
	s.of[host]++
	return true
}

// give ends a request.
func (s *shares) give(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[host]--; s.of[host] == 0 {
		delete(s.of, host)
	}
}

// limited is a listener that closes connections that are too many.
type limited struct {
	net.Listener
	most int

	mu    sync.Mutex
	open  int // connections that net/http has
	empty *sync.Cond
}

func newLimited(l net.Listener, most int) *limited {
	all := &limited{Listener: l, most: most}
	all.empty = sync.NewCond(&all.mu)
	return all
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
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

func (l *limited) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most {
		return false
	}
	l.open++
	return true
}

// note is http.Server.ConnState.
func (l *limited) note(_ net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open--; l.open == 0 {
		l.empty.Broadcast()
	}
}

// wait waits for the end of all connections and their requests.
func (l *limited) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.open > 0 {
		l.empty.Wait()
	}
}
