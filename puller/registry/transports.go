package registry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/puller/names"
)

// transports chooses the transport for each registry. Towline trusts the certificate
// authorities of the system and, per registry, those that Docker trusts.
type transports struct {
	filter         *addressFilter
	system         *transport // with the system's authorities
	unverified     *transport // accepts every certificate
	insecure       []string   // hosts, addresses and prefixes
	engineInsecure func(context.Context) ([]string, error)
	dir            string // of certificates, "" for none

	mu  sync.Mutex
	own map[string]ownTransport // by registry, for those with certificates in dir
}

type ownTransport struct {
	sum [sha256.Size]byte // of the certificates
	*transport
}

func newTransports(o Options) (*transports, error) {
	filter, err := newAddressFilter(o.AllowPrivate)
	if err != nil {
		return nil, err
	}
	if err := checkInsecure(o.Insecure); err != nil {
		return nil, err
	}
	return &transports{
		filter: filter, system: newTransport(filter, nil), unverified: newTransport(filter, &tls.Config{InsecureSkipVerify: true}),
		insecure: o.Insecure, engineInsecure: o.EngineInsecure, dir: o.Certificates, own: make(map[string]ownTransport),
	}, nil
}

func (t *transports) closeIdle() {
	t.system.closeIdle()
	t.unverified.closeIdle()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, own := range t.own {
		own.closeIdle()
	}
}

// verified returns the transport for a registry, with the authorities and the client
// certificate in its directory (Docker, "Verify repository client with certificates"). It
// reads the directory in each call, so changes count at once.
func (t *transports) verified(registry string) (*transport, error) {
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	if t.dir == "" || !filepath.IsLocal(registry) || strings.ContainsAny(registry, `/\`) {
		return t.system, nil
	}
	config, sum, err := readCertificates(filepath.Join(t.dir, registry))
	if err != nil || config == nil {
		return t.system, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	own, ok := t.own[registry]
	if !ok || own.sum != sum {
		if ok {
			own.closeIdle()
		}
		own = ownTransport{sum, newTransport(t.filter, config)}
		t.own[registry] = own
	}
	return own.transport, nil
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

// isInsecure reports whether a registry may be called without verified TLS: it is on
// loopback, as for engines, or the configuration or the engine lists it.
func (t *transports) isInsecure(ctx context.Context, registry string) bool {
	if onLoopback(registry) {
		return true
	}
	list := t.insecure
	if t.engineInsecure != nil {
		if own, err := t.engineInsecure(ctx); err == nil {
			list = append(slices.Clip(list), own...)
		}
	}
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

// onLoopback reports whether a registry is on this machine's loopback interface.
func onLoopback(registry string) bool {
	host := (&url.URL{Host: registry}).Hostname()
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
