package auth

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// Hosts are the names that a daemon may be called by over TCP. A page in a
// browser may give a name of its own the daemon's address (DNS rebinding); it
// then is what the Host header says.
type Hosts []string

// NewHosts takes names and addresses without ports. Those of this host itself are
// among them in any case.
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

// Has reports whether a request calls the daemon by one of its names, or by the
// very address that it has come to. Ports are not looked at: they are mapped.
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

// CheckHost returns what is wrong with the form of a request's Host header: a
// name or an IPv4 address, or an IPv6 address in brackets, and a port after a
// colon if there is one (RFC 9110, 7.2).
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

// hostName returns the name in a Host header as it is compared, "" for none.
func hostName(host string) string {
	name, ok := splitHost(host)
	if !ok {
		return ""
	}
	return canonical(name)
}

// canonical gives a name or an address the form in which it is compared.
func canonical(name string) string {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}
