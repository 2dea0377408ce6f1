package registry

import (
	"net/netip"
	"slices"
)

// checkIP returns why an address is not to be called; known is whether it is its
// host that may be anywhere. An IPv6 address is refused for what it leads to as
// well as for what it is.
func (g *gate) checkIP(ip netip.Addr, known bool) error {
	ip = ip.WithZone("").Unmap()
	inner := embedded(ip)
	if isMetadata(ip) || slices.ContainsFunc(inner, isMetadata) {
		return errMetadata
	}
	may := func(ip netip.Addr) bool {
		return known || isPublic(ip) || slices.ContainsFunc(g.nets, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	switch {
	case !may(ip):
		return errPrivate
	case nat64.Contains(ip):
		if !may(inner[0]) {
			return errPrivate
		}
	}
	return nil
}

// nat64 is the one prefix with IPv4 addresses in it that the public Internet is
// reached by (RFC 6052, 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// embedded returns the IPv4 addresses that an IPv6 address may lead to, by any
// of the ways in which one is put into the other. The first is its last 32 bits:
// compatible and translated addresses (RFC 4291, 2.5.5; RFC 2765, 2.1), NAT64
// with prefixes of 96 bits (RFC 6052, 2.2), which networks may choose as they
// like, and ISATAP (RFC 5214, 6.1).
func embedded(ip netip.Addr) []netip.Addr {
	if !ip.Is6() {
		return nil
	}
	b := ip.As16()
	v4 := func(a, b, c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, c, d}) }
	all := []netip.Addr{v4(b[12], b[13], b[14], b[15])}
	in := func(prefix string) bool { return netip.MustParsePrefix(prefix).Contains(ip) }
	switch {
	case in("2002::/16"): // 6to4 (RFC 3056, 2)
		all = append(all, v4(b[2], b[3], b[4], b[5]))
	case in("2001::/32"): // Teredo: its server, and the client, whose bits are turned (RFC 4380, 4)
		all = append(all, v4(b[4], b[5], b[6], b[7]), v4(^b[12], ^b[13], ^b[14], ^b[15]))
	case in("64:ff9b:1::/48"): // NAT64 with the other lengths that fit (RFC 8215; RFC 6052, 2.2: byte 8 is left out)
		all = append(all, v4(b[6], b[7], b[9], b[10]), v4(b[7], b[9], b[10], b[11]), v4(b[9], b[10], b[11], b[12]))
	}
	return all
}

// isMetadata reports whether a cloud gives, at this address, whoever asks on a
// machine that machine's credentials.
func isMetadata(ip netip.Addr) bool {
	return slices.Contains([]string{
		"169.254.169.254",                // nearly all
		"169.254.170.2",                  // Amazon ECS
		"169.254.170.23", "fd00:ec2::23", // Amazon EKS
		"fd00:ec2::254",                // Amazon EC2
		"fd20:ce::254",                 // Google
		"100.100.100.200",              // Alibaba
		"168.63.129.16",                // Azure
		"192.0.0.192",                  // Oracle
		"169.254.0.23",                 // Tencent
		"169.254.42.42", "fd00:42::42", // Scaleway
	}, ip.String())
}

// isPublic reports whether an address is one of the public Internet (IANA IPv4
// and IPv6 Special-Purpose Address Registries, RFC 6890). Of IPv6 that is global
// unicast (RFC 4291, 2.4), and NAT64's well-known prefix.
func isPublic(ip netip.Addr) bool {
	if ip.Is4() {
		return !slices.ContainsFunc(special4, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return nat64.Contains(ip) || global6.Contains(ip) && !slices.ContainsFunc(special6, func(p netip.Prefix) bool { return p.Contains(ip) }) && !isISATAP(ip)
}

var (
	special4 = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // documentation
		"192.88.99.0/24",             // 6to4 relays
		"224.0.0.0/4", "240.0.0.0/4", // multicast; reserved, with broadcast
	)
	global6  = netip.MustParsePrefix("2000::/3")
	special6 = prefixes(
		"2001::/23",                  // of protocols, Teredo among them
		"2001:db8::/32", "3fff::/20", // documentation
		"2002::/16", // 6to4
	)
)

// isISATAP reports whether the interface's part of an address is an IPv4 address
// (RFC 5214, 6.1).
func isISATAP(ip netip.Addr) bool {
	b := ip.As16()
	return b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

func prefixes(all ...string) (parsed []netip.Prefix) {
	for _, p := range all {
		parsed = append(parsed, netip.MustParsePrefix(p))
	}
	return parsed
}
