package tree

import (
	"sync"
	"time"
)

const (
	// firstAvoid is how long a host is avoided that does not answer. It doubles up to
	// mostAvoid while it still does not.
	firstAvoid, mostAvoid = 5 * time.Second, time.Minute
	// AvoidSlow is how long a slow host is avoided, AvoidBad one that gave wrong bytes, and
	// AvoidStrange one that does not know the set.
	AvoidSlow, AvoidBad, AvoidStrange = 30 * time.Second, 10 * time.Minute, time.Minute
)

// Standing remembers which hosts are avoided. The zero value is ready for use. Its methods may be called from anywhere.
type Standing struct {
	mu    sync.Mutex
	hosts map[string]*fault
}

// fault is why a host is avoided.
type fault struct {
	until time.Time
	fails int  // to answer, in a row
	dead  bool // it is avoided for nothing else
}

func (s *Standing) of(host string) *fault {
	if s.hosts == nil {
		s.hosts = make(map[string]*fault)
	}
	f := s.hosts[host]
	if f == nil {
		f = new(fault)
		s.hosts[host] = f
	}
	return f
}

// Avoids reports whether a host is not to be asked now.
func (s *Standing) Avoids(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.hosts[host]
	return f != nil && time.Now().Before(f.until)
}

// Avoid has a host not asked for a while. It reports whether it was asked until now.
func (s *Standing) Avoid(host string, d time.Duration) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, now := s.of(host), time.Now()
	first = now.After(f.until)
	if until := now.Add(d); until.After(f.until) {
		f.until, f.dead = until, false
	}
	return first
}

// Dead has a host avoided that does not answer. It reports whether it was asked until now.
func (s *Standing) Dead(host string) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, now := s.of(host), time.Now()
	if first = now.After(f.until); !first {
		return false
	}
	f.until, f.dead = now.Add(min(firstAvoid<<min(f.fails, 10), mostAvoid)), true
	f.fails++
	return true
}

// Asks notes that a host has asked this one: it is there again, and is not avoided as dead any
// more. That counts once until it has answered: it may be one that can't be reached.
func (s *Standing) Asks(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.hosts[host]; f != nil && f.dead && f.fails == 1 {
		f.until, f.dead = time.Time{}, false
	}
}

// Answers notes that a host has answered. One that is avoided has begun to before.
func (s *Standing) Answers(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.hosts[host]; f != nil && time.Now().After(f.until) {
		delete(s.hosts, host)
	}
}
