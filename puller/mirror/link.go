package mirror

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// linkFor is how long a measurement of a registry's link is believed.
	linkFor = 10 * time.Minute
	// leastGain is by how much all connections must be faster than one, for the
	// engine's own pull to be slower: it fetches three layers at a time, and most of an
	// image's bytes are in few layers.
	leastGain = 1.5
	// leastSample is how many bytes a measurement needs.
	leastSample = 64 << 20
)

// links remembers registries whose link one connection fills. Its methods may be called
// from anywhere.
type links struct {
	mu   sync.Mutex
	full map[string]link
}

type link struct {
	rate float64 // of one connection, in bytes a second
	at   time.Time
}

// measure notes what the fetcher knows of a registry's link.
func (m *Mirror) measure(registry string) {
	rate := m.fetcher.Rate(registry)
	m.links.note(registry, rate.Bytes, rate.One, rate.All)
}

// note takes in what a fetch has measured: bytes a second of the fastest connection,
// and of all together.
func (l *links) note(registry string, bytes int64, one, all float64) {
	if bytes < leastSample || one <= 0 || all <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if all >= leastGain*one {
		delete(l.full, registry)
		return
	}
	if len(l.full) > 1000 { // callers choose the names
		clear(l.full)
	}
	l.full[registry] = link{rate: one, at: time.Now()}
}

// reason says why a registry's pulls would not gain, "" if they may.
func (l *links) reason(registry string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.full[registry]
	if !ok || time.Since(known.at) > linkFor {
		delete(l.full, registry)
		return ""
	}
	return fmt.Sprintf("one connection to %s is as fast as many (%.0f MB/s)", registry, known.rate/1e6)
}

// onLoopback reports whether a registry is on this machine.
func onLoopback(registry string) bool {
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
