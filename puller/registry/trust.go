package registry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/puller/names"
)

// trust says by what registries are believed, as far as that is not the system's
// authorities: what the engine trusts, Towline can ask.
type trust struct {
	gate     *gate
	insecure []string                                // hosts, addresses and prefixes
	engines  func(context.Context) ([]string, error) // the same, of the engine; may be nil
	dir      string                                  // of certificates; "" for none

	mu   sync.Mutex
	ways map[string]certified // by registry, for those that have certificates
}

type certified struct {
	sum [sha256.Size]byte // of the files
	*way
}

// checkInsecure returns which entry is none, naming the key.
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

// isInsecure reports whether a registry may be called without TLS that proves who
// it is: one on loopback, as engines have it, and those that are listed here or at
// the engine.
func (t *trust) isInsecure(ctx context.Context, registry string) bool {
	if onLoopback(registry) {
		return true
	}
	list := t.insecure
	if t.engines != nil {
		own, err := t.engines(ctx)
		if err == nil {
			list = append(slices.Clip(list), own...)
		}
	}
	address, err := names.CanonicalAddress(registry)
	if err != nil {
		return false
	}
	var at []netip.Addr
	for _, entry := range list {
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			if at == nil {
				at = addresses(ctx, registry)
			}
			if slices.ContainsFunc(at, unmapped(prefix).Contains) {
				return true
			}
		} else if other, err := names.CanonicalAddress(entry); err == nil && other == address {
			return true
		}
	}
	return false
}

// addresses are where a registry is.
func addresses(ctx context.Context, registry string) []netip.Addr {
	host := (&url.URL{Host: registry}).Hostname()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // which an address is its own answer to
	if err != nil {
		return []netip.Addr{}
	}
	for i, ip := range found {
		found[i] = ip.WithZone("").Unmap()
	}
	return found
}

// to returns the way to a registry: with the authorities and the client's
// certificate that the directory has for it (Docker, "Verify repository client
// with certificates"). What is there is looked at each time, and may change.
func (t *trust) to(registry string) (*way, error) {
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	if t.dir == "" || !filepath.IsLocal(registry) || strings.ContainsAny(registry, `/\`) {
		return t.gate.way, nil
	}
	config, sum, err := readCertificates(filepath.Join(t.dir, registry))
	if err != nil || config == nil {
		return t.gate.way, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.ways[registry]
	if !ok || known.sum != sum {
		if ok {
			known.close()
		}
		known = certified{sum, t.gate.newWay(config)}
		t.ways[registry] = known
	}
	return known.way, nil
}

func (t *trust) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.ways {
		w.close()
	}
}

// readCertificates reads a directory: authorities from *.crt, and a certificate
// to show from *.cert and *.key of one name. The result is nil where there are none.
func readCertificates(dir string) (*tls.Config, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none, nil
	}
	if err != nil {
		return nil, none, err
	}
	config, sum := &tls.Config{}, sha256.New()
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch base, extension := strings.TrimSuffix(file, filepath.Ext(file)), filepath.Ext(file); extension {
		case ".crt":
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, none, err
			}
			if config.RootCAs == nil {
				if config.RootCAs, err = x509.SystemCertPool(); err != nil {
					return nil, none, err
				}
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, none, fmt.Errorf("%s has no certificate in PEM", file)
			}
			fmt.Fprintln(sum, file, len(pem))
			sum.Write(pem)
		case ".cert":
			pair, err := tls.LoadX509KeyPair(file, base+".key")
			if err != nil {
				return nil, none, fmt.Errorf("%s: %w", file, err)
			}
			config.Certificates = append(config.Certificates, pair)
			for _, raw := range pair.Certificate {
				fmt.Fprintln(sum, file, len(raw))
				sum.Write(raw)
			}
		}
	}
	if config.RootCAs == nil && config.Certificates == nil {
		return nil, none, nil
	}
	return config, [sha256.Size]byte(sum.Sum(nil)), nil
}
