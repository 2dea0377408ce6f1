package names_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

func TestAddressForms(t *testing.T) {
	zeros := strings.Repeat("0", 40)
	for form, spellings := range map[string][]string{
		"127.0.0.1:5000":       {"127.0.0.1:5000", "127.0.0.1:05000", "127.0.0.1:" + zeros + "5000", "[::ffff:7f00:1]:5000", "[::ffff:127.0.0.1]:05000", "[0:0:0:0:0:FFFF:7f00:0001]:5000"},
		"localhost:5000":       {"localhost:5000", "LOCALHOST:5000", "localhost:" + zeros + "5000", "localhost.:5000"},
		"localhost":            {"localhost", "localhost:443", "localhost:0443", "localhost:80", "localhost:080"},
		"[::1]":                {"[::1]", "[::1]:443", "[0:0::0:1]:80"},
		"[2001:db8::1]:5000":   {"[2001:db8::1]:5000", "[2001:DB8:0:0::0:1]:05000", "[2001:0db8::0001]:5000"},
		"registry.example.com": {"registry.example.com", "Registry.Example.COM", "registry.example.com.", "registry.example.com:443", "registry.example.com.:0443"},
		// Another port is another registry, but for engines with insecure registries.
		"registry.example.com:80":   {"registry.example.com:80", "registry.example.com:0080"},
		"registry.example.com:8443": {"registry.example.com:8443"},
		"docker.io":                 {"docker.io", "index.docker.io", "registry-1.docker.io", "Registry.Hub.Docker.com:443", "registry.docker.io.", "index.docker.io:00443"},
		"docker.io:5000":            {"docker.io:5000"},
		"index.docker.io:5000":      {"index.docker.io:5000"},
		"xn--bcher-kva.example":     {"xn--bcher-kva.example", "XN--Bcher-kva.example."},
	} {
		for _, s := range spellings {
			if got, err := names.CanonicalAddress(s); err != nil || got != form {
				t.Errorf("%q: %q, %v; want %q", s, got, err, form)
			}
		}
	}
}

func TestAddressInvalid(t *testing.T) {
	for _, s := range []string{
		"", ".", ":", ":5000", "host:", "host:0", "host:00", "host:65536", "host:99999999999999999999", "host:-1", "host:+5", "host:5_0", "host:5e3", "host:x", "host:1:2",
		"host..example", ".example", "-a.example", "a-.example", "a b", "a/b", "a@b", "bücher.example", "a%2e.example", "http://host", "*.example.com",
		// What inet_aton(3) takes for 127.0.0.1.
		"2130706433", "2130706433:5000", "0x7f000001:5000", "0X7F.1", "127.1", "127.0.1:5000", "0177.0.0.1", "127.0.0.01:5000", "1.2.3.4.5", "a.5", "a.0x5", "256.0.0.1", "127.0.0.1..",
		"0.0.0.0:5000", "[::]:5000", "[::ffff:0:0]:5000",
		"[::1", "::1", "[]", "[127.0.0.1]:5000", "[::1%25eth0]", "[fe80::1%eth0]:5000", "[::1]5000", "[::1]]", "[[::1]]",
	} {
		if got, err := names.CanonicalAddress(s); err == nil {
			t.Errorf("%q has the form %q", s, got)
		}
	}
}

func TestAddressInvalidInReference(t *testing.T) {
	for _, image := range []string{"2130706433:5000/x", "127.0.0.1:65536/x", "localhost:0/x", "127.1:5000/x", "0x7f000001:5000/team/x", "[::]:5000/x"} {
		if _, err := puller.ParseReference(image); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "image: ") {
			t.Errorf("%s: %v", image, err)
		}
	}
	// The engine keeps it under the name that is written.
	for image, full := range map[string]string{
		"127.0.0.1:05000/x": "127.0.0.1:05000/x:latest", "Registry.example.com:443/x:v1": "Registry.example.com:443/x:v1", "alpine": "docker.io/library/alpine:latest",
	} {
		if named, err := puller.ParseReference(image); err != nil || named.String() != full {
			t.Errorf("%s: %v, %v", image, named, err)
		}
	}
}

// Two spellings of what is dialed have one form, and a form is its own.
func FuzzCanonicalAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "localhost", "docker.io", "::1", "::ffff:7f00:1", "2001:db8::1", "Registry.Example.com", "127.1", "0x7f000001"} {
		f.Add(s, uint16(5000), uint8(3), true)
	}
	f.Fuzz(func(t *testing.T, host string, port uint16, zeros uint8, dot bool) {
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() && ip.Zone() == "" {
			host = "[" + ip.StringExpanded() + "]"
			dot = false
		}
		written := fmt.Sprintf("%s:%d", host, port)
		form, err := names.CanonicalAddress(written)
		if err != nil {
			return
		}
		if again, err := names.CanonicalAddress(form); err != nil || again != form {
			t.Errorf("%q has the form %q, which has the form %q (%v)", written, form, again, err)
		}
		other := strings.ToUpper(host)
		if dot && !strings.HasSuffix(host, ".") && !strings.HasSuffix(host, "]") {
			other += "."
		}
		other = fmt.Sprintf("%s:%s%d", other, strings.Repeat("0", int(zeros)), port)
		if got, err := names.CanonicalAddress(other); got != form {
			t.Errorf("%q is %q, but %q is %q (%v)", written, form, other, got, err)
		}
	})
}
