package auth

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// Hosts are the names of a daemon on TCP. A page of another site can point a name of its
// own to the daemon's address (DNS rebinding). The Host header then has that name.
type Hosts []string

// NewHosts takes names and addresses without ports. It adds those of the loopback
// interface.
func NewHosts(names []string) Hosts {
	all := Hosts{"localhost", "127.0.0.1", "::1"}
	for _, name := range names {
		if _, err := netip.ParseAddr(name); err != nil { // an IPv6 address has no brackets there
			name, _ = splitHost(name)
		}
		all = append(all, canonical(name))
	}
	return all
}

// Has reports whether a request's Host is one of the names, or the local address of its
// connection. Ports are ignored, because they may be mapped.
func (h Hosts) Has(r *http.Request) bool {
	name := hostName(r.Host)
	if name == "" {
		return false
	}
	if slices.Contains(h, name) {
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if local == nil {
		return false
	}
	asked, err := netip.ParseAddr(name)
	return err == nil && asked.Unmap() == local.AddrPort().Addr().Unmap().WithZone("")
}

// CheckHost returns an ErrInvalidRequest if a request's Host header is malformed. It must
// be a name, an IPv4 address, or an IPv6 address in brackets, with an optional port after
// a colon (RFC 9110, 7.2).
func CheckHost(r *http.Request) error {
	if _, ok := splitHost(r.Host); !ok {
		return puller.Errorf(puller.ErrInvalidRequest, "Host: %.200q is malformed; write NAME, NAME:PORT or [ADDRESS]:PORT", r.Host)
	}
	return nil
}

// splitHost returns the name or address in a Host header, without brackets.
func splitHost(host string) (name string, ok bool) {
	port := ""
	if literal, bracketed := strings.CutPrefix(host, "["); bracketed {
		if name, port, ok = strings.Cut(literal, "]"); !ok {
			return "", false
		}
		if ip, err := netip.ParseAddr(name); err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", false
		}
		if port, ok = strings.CutPrefix(port, ":"); !ok && port != "" {
			return "", false
		}
	} else {
		name, port, _ = strings.Cut(host, ":")
	}
	return name, strings.Trim(port, "0123456789") == "" && len(port) <= 5 && !strings.ContainsAny(name, "[]")
}

// hostName returns the canonical name in a Host header, "" for none.
func hostName(host string) string {
	name, ok := splitHost(host)
	if !ok {
		return ""
	}
	return canonical(name)
}

// canonical returns the form of a name or an address that Hosts compares.
func canonical(name string) string {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}
