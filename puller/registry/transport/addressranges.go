package transport

import (
	"net/netip"
	"slices"
)

// nat64 is the only prefix with embedded IPv4 addresses that leads to the public Internet
// (RFC 6052, 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// embedded returns the IPv4 addresses that an IPv6 address may lead to. The first is its
// last 32 bits: compatible and translated addresses (RFC 4291, 2.5.5; RFC 2765, 2.1), NAT64
// with 96-bit prefixes, which each network chooses (RFC 6052, 2.2), and ISATAP (RFC 5214,
// 6.1).
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
	case in("2001::/32"): // Teredo: its server, and the client with inverted bits (RFC 4380, 4)
		all = append(all, v4(b[4], b[5], b[6], b[7]), v4(^b[12], ^b[13], ^b[14], ^b[15]))
	case in("64:ff9b:1::/48"): // NAT64 with the other lengths that fit (RFC 8215; RFC 6052, 2.2: without byte 8)
		all = append(all, v4(b[6], b[7], b[9], b[10]), v4(b[7], b[9], b[10], b[11]), v4(b[9], b[10], b[11], b[12]))
	}
	return all
}

// isMetadata reports whether this is the address of a cloud's metadata service, which
// returns a machine's credentials to every process on it.
func isMetadata(ip netip.Addr) bool {
	return slices.Contains([]string{
		"169.254.169.254",                // most clouds
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

// isPublic reports whether an address is in the public Internet (IANA IPv4 and IPv6
// Special-Purpose Address Registries, RFC 6890). For IPv6 that is global unicast (RFC 4291,
// 2.4) and NAT64's well-known prefix.
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
		"2001::/23",                  // protocols, such as Teredo
		"2001:db8::/32", "3fff::/20", // documentation
		"2002::/16", // 6to4
	)
)

// isISATAP reports whether an address's interface identifier is an IPv4 address (RFC 5214,
// 6.1).
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
