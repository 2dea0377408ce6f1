package names

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Hub is the canonical address of Docker Hub.
const Hub = "docker.io"

// HubNames are other names that lead to Docker Hub.
var HubNames = []string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "registry.docker.io"}

// CanonicalAddress returns the one form of a registry's address, HOST or
// HOST:PORT: two spellings that reach one registry have one form. The host is in
// lower case and has no dot at its end. An IPv6 address is in brackets and in
// the form of RFC 5952; an IPv4-mapped one is the IPv4 address. The port is a
// decimal number; 443 is left out, since it is what no port means, and on
// loopback 80 too, since engines try both there. Docker Hub's names are Hub.
//
// It is for comparing: an engine is asked with the name as the caller wrote it,
// since that is the name by which the caller looks for the image. The error says
// why an address can't be that of a registry.
func CanonicalAddress(written string) (string, error) {
	host, port, err := SplitAddress(written)
	if err != nil {
		return "", err
	}
	if host, err = canonicalHost(host); err != nil {
		return "", err
	}
	if port, err = CanonicalPort(port); err != nil {
		return "", err
	}
	switch {
	case port == "443", port == "80" && isLoopback(host):
		port = ""
	}
	switch {
	case port != "":
		return host + ":" + port, nil
	case slices.Contains(HubNames, host):
		return Hub, nil
	}
	return host, nil
}

// SplitAddress takes HOST:PORT apart; port is "" where there is none.
func SplitAddress(written string) (host, port string, err error) {
	host, port = written, ""
	if i := strings.LastIndexByte(written, ':'); i > strings.LastIndexByte(written, ']') {
		if host, port = written[:i], written[i+1:]; port == "" {
			return "", "", errors.New("has no port after the colon")
		}
	}
	return host, port, nil
}

// hostForm is a name as DNS has it, or an IPv4 address (RFC 1123, 2.1).
var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*$`)

// numeric is a name that some resolvers take for an IPv4 address (inet_aton(3)):
// the last part of no domain name is a number.
var numeric = regexp.MustCompile(`(^|\.)([0-9]+|0x[0-9a-f]*)$`)

func canonicalHost(host string) (string, error) {
	if literal, ok := strings.CutPrefix(host, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		ip, err := netip.ParseAddr(literal)
		switch {
		case !ok, err != nil, !ip.Is6():
			return "", errors.New("is no IPv6 address in brackets")
		case ip.Zone() != "":
			return "", errors.New("has a zone, which no registry's address has")
		}
		return canonicalIP(ip.Unmap())
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && ip.Is4():
		return canonicalIP(ip)
	case numeric.MatchString(host):
		return "", errors.New("is a number, but no IPv4 address; write one as four decimal numbers, such as 127.0.0.1")
	case !hostForm.MatchString(host):
		return "", errors.New("is no host name in ASCII and no address")
	}
	return host, nil
}

// canonicalIP refuses the addresses that stand for whatever this host is.
func canonicalIP(ip netip.Addr) (string, error) {
	switch {
	case ip.IsUnspecified():
		return "", fmt.Errorf("is the address %s, which is that of no registry; name one such as 127.0.0.1", ip)
	case ip.Is6():
		return "[" + ip.String() + "]", nil
	}
	return ip.String(), nil
}

func CanonicalPort(port string) (string, error) {
	if port == "" {
		return "", nil
	}
	digits := strings.TrimLeft(port, "0")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != digits {
		return "", errors.New("has a port that is not between 1 and 65535")
	}
	return digits, nil
}

// isLoopback reports whether a canonical host is this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// RegistryOf returns the canonical address of the registry of a reference in
// full form.
func RegistryOf(image string) string {
	host, _, _ := strings.Cut(image, "/")
	if address, err := CanonicalAddress(host); err == nil {
		return address
	}
	return host // of a job that was accepted by an older version
}
