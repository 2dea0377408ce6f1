package auth

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
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
		all = append(all, hostName(name))
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

// hostName returns the name in NAME, NAME:PORT or [ADDRESS]:PORT, as it is
// compared.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if strings.HasPrefix(host, "[") {
		host = strings.TrimSuffix(host[1:], "]")
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
