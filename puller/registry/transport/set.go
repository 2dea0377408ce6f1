// Package transport calls registries: it decides which addresses may be called, which
// certificates are trusted, and which registries need no verified TLS.
package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/puller/names"
)

// Options say what a Set may call.
type Options struct {
	// AllowPrivate are the hosts, addresses and prefixes in private networks that may be
	// called. A cloud's metadata service never is.
	AllowPrivate []string
	// Insecure are the hosts, addresses and prefixes of registries that may be called
	// without verified TLS. EngineInsecure, if not nil, returns those of the engine.
	Insecure       []string
	EngineInsecure func(context.Context) ([]string, error)
	// Certificates is a directory in the form of Docker's certs.d, "" for none.
	Certificates string
	// Dial, if not nil, connects to every address without a check. Only tests set it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Set has a transport for each registry. Towline trusts the certificate authorities of the
// system and, per registry, those that Docker trusts. The methods may be called from
// anywhere.
type Set struct {
	filter         *addressFilter
	system         *Transport // with the system's authorities
	unverified     *Transport // accepts every certificate
	insecure       []string   // hosts, addresses and prefixes
	engineInsecure func(context.Context) ([]string, error)
	dir            string // of certificates, "" for none

	mu     sync.Mutex
	own    map[string]ownTransport // by registry, for those with certificates in dir
	listed listed
}

// listed is what engineInsecure has returned.
type listed struct {
	asking sync.Mutex // held while the engine is asked
	list   []string
	at     time.Time
}

// listedFor is how long the engine is not asked again: some engines start programs to
// answer, and many pulls may begin at a time.
const listedFor = 10 * time.Second

type ownTransport struct {
	sum [sha256.Size]byte // of the certificates
	*Transport
}

// New returns a Set. It does not connect. The error names the configuration key of the
// invalid option.
func New(o Options) (*Set, error) {
	filter, err := newAddressFilter(o.AllowPrivate)
	if err != nil {
		return nil, err
	}
	filter.replaced = o.Dial
	if err := checkInsecure(o.Insecure); err != nil {
		return nil, err
	}
	return &Set{
		filter: filter, system: newTransport(filter, nil), unverified: newTransport(filter, &tls.Config{InsecureSkipVerify: true}),
		insecure: o.Insecure, engineInsecure: o.EngineInsecure, dir: o.Certificates, own: make(map[string]ownTransport),
	}, nil
}

// CloseIdle closes idle connections.
func (s *Set) CloseIdle() {
	s.system.closeIdle()
	s.unverified.closeIdle()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, own := range s.own {
		own.closeIdle()
	}
}

// System returns the transport that trusts the system's authorities only.
func (s *Set) System() *Transport { return s.system }

// Unverified returns the transport that accepts every certificate. It is for registries
// of which IsInsecure is true.
func (s *Set) Unverified() *Transport { return s.unverified }

// Verified returns the transport for a registry, with the authorities and the client
// certificate in its directory (Docker, "Verify repository client with certificates"). It
// reads the directory in each call, so changes count at once.
func (s *Set) Verified(registry string) (*Transport, error) {
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	if s.dir == "" || !filepath.IsLocal(registry) || strings.ContainsAny(registry, `/\`) {
		return s.system, nil
	}
	config, sum, err := readCertificates(filepath.Join(s.dir, registry))
	if err != nil || config == nil {
		return s.system, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own, ok := s.own[registry]
	if !ok || own.sum != sum {
		if ok {
			own.closeIdle()
		}
		own = ownTransport{sum, newTransport(s.filter, config)}
		s.own[registry] = own
	}
	return own.Transport, nil
}

// checkInsecure returns an error that names the first invalid entry.
func checkInsecure(list []string) error {
	for _, entry := range list {
		if _, err := netip.ParsePrefix(entry); err == nil {
			continue
		}
		if _, err := names.CanonicalAddress(entry); err != nil {
			return fmt.Errorf("registries.insecure: %q %w; write registry.internal:5000, 10.1.2.3 or 10.0.0.0/8", entry, err)
		}
	}
	return nil
}

// engineList returns the engine's list, which may be so old. It is empty where the engine
// does not answer.
func (s *Set) engineList(ctx context.Context, age time.Duration) []string {
	if s.engineInsecure == nil {
		return nil
	}
	l := &s.listed
	l.asking.Lock()
	defer l.asking.Unlock()
	if l.at.IsZero() || time.Since(l.at) > age {
		list, err := s.engineInsecure(ctx)
		if err != nil {
			return nil
		}
		l.list, l.at = list, time.Now()
	}
	return l.list
}

// IsInsecure reports whether a registry may be called without verified TLS: it is on
// loopback, as for engines, or the configuration or the engine lists it.
func (s *Set) IsInsecure(ctx context.Context, registry string) bool {
	return s.isInsecure(ctx, registry, listedFor)
}

// WasInsecure is IsInsecure by what the engine has said last, however long ago. It asks the
// engine only if it was never asked.
func (s *Set) WasInsecure(ctx context.Context, registry string) bool {
	return s.isInsecure(ctx, registry, math.MaxInt64)
}

func (s *Set) isInsecure(ctx context.Context, registry string, age time.Duration) bool {
	if OnLoopback(registry) {
		return true
	}
	list := append(slices.Clip(s.insecure), s.engineList(ctx, age)...)
	address, err := names.CanonicalAddress(registry)
	if err != nil {
		return false
	}
	var ips []netip.Addr
	for _, entry := range list {
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			if ips == nil {
				ips = lookUp(ctx, registry)
			}
			if slices.ContainsFunc(ips, unmapped(prefix).Contains) {
				return true
			}
		} else if other, err := names.CanonicalAddress(entry); err == nil && other == address {
			return true
		}
	}
	return false
}

// lookUp returns a registry's addresses. The result is not nil.
func lookUp(ctx context.Context, registry string) []netip.Addr {
	host := (&url.URL{Host: registry}).Hostname()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // of an address: the address
	if err != nil {
		return []netip.Addr{}
	}
	for i, ip := range ips {
		ips[i] = ip.WithZone("").Unmap()
	}
	return ips
}

// OnLoopback reports whether a registry is on this machine's loopback interface.
func OnLoopback(registry string) bool {
	host := (&url.URL{Host: registry}).Hostname()
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
