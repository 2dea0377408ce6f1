package server

import (
	"net"
	"net/url"
	"os"
)

// certificateNames returns the names by which hosts may call the server: localhost, those in
// listen and servers, and the machine's own.
func certificateNames(listen string, servers []string) []string {
	names := []string{"localhost"}
	if host, _, err := net.SplitHostPort(listen); err == nil && !isAny(host) {
		names = append(names, host)
	}
	for _, s := range servers {
		if u, err := url.Parse(s); err == nil {
			names = append(names, u.Hostname())
		}
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	return names
}

// isAny reports whether a host to listen at is all addresses of the machine.
func isAny(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }

// reachedBy returns the URL by which hosts reach a server that listens there: at the address
// from which this machine calls others, where it listens at all of them.
func reachedBy(listen, port string) string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || isAny(host) {
		host = "localhost"
		// TEST-NET-1 (RFC 5737). A UDP socket that is connected sends nothing.
		if c, err := net.Dial("udp", "192.0.2.1:9"); err == nil {
			if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
				host = a.IP.String()
			}
			c.Close()
		}
	}
	return "tls://" + net.JoinHostPort(host, port)
}
