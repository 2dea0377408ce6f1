package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/towline/towline/puller/names"
)

// addressFilter decides which addresses may be called. Callers choose the names of
// registries, and registries choose redirects and token servers. Without the filter, both
// could use the daemon to reach its private network.
type addressFilter struct {
	hosts    []string // names that may have private addresses
	prefixes []netip.Prefix
	replaced dialFunc // if not nil, the filter is not used
}

// Why an address was not called.
var (
	ErrPrivate  = errors.New("its address is in a private network, which towline calls only where registries.allow_private lists it")
	ErrMetadata = errors.New("its address is that of a cloud's metadata service, which towline never calls")
)

// newAddressFilter returns a filter that allows these private hosts, addresses and
// prefixes (10.0.0.0/8).
func newAddressFilter(allow []string) (*addressFilter, error) {
	f := &addressFilter{}
	for _, a := range allow {
		if p, err := netip.ParsePrefix(a); err == nil {
			f.prefixes = append(f.prefixes, unmapped(p).Masked())
		} else if ip, err := netip.ParseAddr(a); err == nil {
			ip = ip.Unmap()
			f.prefixes = append(f.prefixes, netip.PrefixFrom(ip, ip.BitLen()))
		} else if host, err := names.CanonicalAddress(a); err == nil && !strings.ContainsAny(a, ":[]") {
			f.hosts = append(f.hosts, host)
		} else {
			return nil, fmt.Errorf("registries.allow_private: %q is no host, address or prefix; write them as registry.internal, 10.1.2.3 or 10.0.0.0/8", a)
		}
	}
	return f, nil
}

// unmapped returns a prefix of IPv4-mapped addresses (RFC 4291, 2.5.5.2) as an IPv4 prefix.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

const dialLimit = 10 * time.Second

// dial checks the address that it calls, after the name was looked up: two look-ups of a
// name can have two results.
func (f *addressFilter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if f.replaced != nil {
		return f.replaced(ctx, network, address)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	canonical, err := names.CanonicalAddress(host)
	allowed := err == nil && slices.Contains(f.hosts, canonical)
	d := net.Dialer{Timeout: dialLimit, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		if err := f.check(address, allowed); err != nil {
			return fmt.Errorf("%w: %s", err, host)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// check is checkIP for an address with a port.
func (f *addressFilter) check(address string, hostAllowed bool) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w (%s)", ErrPrivate, address)
	}
	return f.checkIP(to.Addr(), hostAllowed)
}

// checkIP returns why an address must not be called. hostAllowed says that its host may
// have any address. An IPv6 address must pass with the IPv4 addresses in it.
func (f *addressFilter) checkIP(ip netip.Addr, hostAllowed bool) error {
	ip = ip.WithZone("").Unmap()
	inner := embedded(ip)
	if isMetadata(ip) || slices.ContainsFunc(inner, isMetadata) {
		return ErrMetadata
	}
	allowed := func(ip netip.Addr) bool {
		return hostAllowed || isPublic(ip) || slices.ContainsFunc(f.prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	if !allowed(ip) || nat64.Contains(ip) && !allowed(inner[0]) {
		return ErrPrivate
	}
	return nil
}
