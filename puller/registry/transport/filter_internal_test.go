package transport

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestAddressFilter(t *testing.T) {
	none, _ := newAddressFilter(nil)
	all, err := newAddressFilter([]string{"0.0.0.0/0", "::/0", "metadata.test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why   error
		addrs string
	}{
		{nil, "93.184.216.34 1.1.1.1 172.15.255.255 172.32.0.1 100.63.255.255 100.128.0.1 11.0.0.1 2606:4700::1111 64:ff9b::101:101 ::ffff:1.1.1.1 192.0.1.1 192.88.98.1 198.17.255.255 198.20.0.1 2001:200::1 2a00:1450::1 2a01::5efe 2a01::1:5efe:a9fe:1"},
		{ErrPrivate, "127.0.0.1 127.255.255.254 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.1.1 100.64.0.1 100.127.255.255 0.0.0.0 0.1.2.3 " +
			"224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 192.0.0.8 198.18.0.1 :: ::1 fe80::1 fe80::1%eth0 fc00::1 fd12::1 fec0::1 ff02::1 " +
			"::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1::1 2002:a00:1::1 2001:0:1::1 " +
			"192.0.2.1 198.51.100.7 203.0.113.9 192.88.99.1 2001:db8::1 3fff::1 3fff:fff::1 2001:2::1 2001:10::1 2001:20::1 5f00::1 100::1 100:0:0:1::1 4000::1 fbff::1 " +
			"::ffff:0:127.0.0.1 ::ffff:0:7f00:1 ::ffff:0:1.1.1.1 ::101:101 64:ff9b:1::101:101 64:ff9b:0:0:0:1:101:101 2002:101:101::1 " +
			"2001:0:7f00:1:0:0:8000:fffe 2001:0:101:101:0:0:5601:fefe 2a01::5efe:7f00:1 2a01::200:5efe:a00:1 64:ff9b::c000:201"},
		{ErrMetadata, "169.254.169.254 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe ::169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 fd00:ec2::254 fd00:ec2::254%eth0 " +
			"169.254.170.2 169.254.170.23 fd00:ec2::23 fd20:ce::254 100.100.100.200 168.63.129.16 192.0.0.192 169.254.42.42 " +
			"::ffff:0:169.254.169.254 ::ffff:0:a9fe:a9fe 64:ff9b:1::a9fe:a9fe 64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:a9fe:a9:fe00:0:1 64:ff9b:1:a9:fe:a9fe:: 64:ff9b:1:0:a9:fea9:fe00:: " +
			"2001:0:a9fe:a9fe:: 2001:0:101:101:0:0:5601:5601 2a01::5efe:a9fe:a9fe fe80::200:5efe:a9fe:a9fe 2a01:4f8::a9fe:a9fe ::ffff:100.100.100.200 ::ffff:0:6464:64c8 2002:6464:64c8::"},
	} {
		for a := range strings.FieldsSeq(c.addrs) {
			to := net.JoinHostPort(a, "443")
			if err := none.check(to, false); !errors.Is(err, c.why) || (err == nil) != (c.why == nil) {
				t.Errorf("%s: %v, not %v", a, err, c.why)
			}
			want := c.why
			if want == ErrPrivate {
				want = nil
			}
			if err := all.check(to, false); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s where all are allowed: %v, not %v", a, err, want)
			}
			if err := none.check(to, true); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s of an allowed host: %v, not %v", a, err, want)
			}
		}
	}
	if err := none.check("not an address", true); err == nil {
		t.Error("an invalid address may be called")
	}
}

func TestAddressFilterAllow(t *testing.T) {
	f, err := newAddressFilter([]string{"10.1.0.0/16", "192.168.7.7", "::ffff:192.168.8.8", "::ffff:10.9.0.0/112", "fd12:3456::/32", "Registry.Internal."})
	if err != nil {
		t.Fatal(err)
	}
	for address, may := range map[string]bool{
		"10.1.255.255": true, "10.2.0.0": false, "192.168.7.7": true, "192.168.7.8": false, "fd12:3456::1": true, "fd12:3457::1": false,
		"::ffff:10.1.0.1": true, "::ffff:10.2.0.1": false, "64:ff9b::a01:1": true, "64:ff9b::a02:1": false,
		"192.168.8.8": true, "10.9.1.1": true, "10.10.0.0": false, "2002:a01:1::1": false, "::ffff:0:10.1.0.1": false,
	} {
		if err := f.checkIP(netip.MustParseAddr(address), false); (err == nil) != may {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, bad := range []string{"", "https://registry.internal", "registry.internal:5000", "10.0.0.0/33", "10.0.0.0-10.1.0.0/8", "*.internal", "a b", "127.1", "[::1]", "0x7f000001"} {
		if _, err := newAddressFilter([]string{bad}); err == nil || !strings.HasPrefix(err.Error(), "registries.allow_private: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzAddressFilter(f *testing.F) {
	for _, s := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1%eth0]:443", "x"} {
		f.Add(s)
	}
	all, err := newAddressFilter([]string{"0.0.0.0/0", "::/0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, address string) {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return
		}
		if to.Addr().Unmap() == netip.AddrFrom4([4]byte{169, 254, 169, 254}) && all.check(address, true) == nil {
			t.Error(address)
		}
	})
}
