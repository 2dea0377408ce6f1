package auth_test

import (
	"net/http"
	"testing"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

func TestHosts(t *testing.T) {
	hosts := auth.NewHosts([]string{"Towline.test.", "2001:db8:0::1", "[2001:db8::2]"})
	for _, c := range []struct {
		host         string
		formed, ours bool
	}{
		{"localhost", true, true}, {"localhost:7077", true, true}, {"LOCALHOST.:1", true, true}, {"localhost:", true, true},
		{"127.0.0.1:7077", true, true}, {"[::1]", true, true}, {"[::1]:7077", true, true}, {"[0:0::0:1]:7077", true, true}, {"[::ffff:127.0.0.1]", true, true},
		{"towline.test", true, true}, {"towline.test:443", true, true}, {"[2001:DB8::1]:7077", true, true}, {"[2001:db8::2]", true, true},
		{"evil.test", true, false}, {"", true, false}, {"127.0.0.2", true, false}, {"[::2]", true, false}, {"localhost.evil.test", true, false},
		// As clients of a unix socket have it.
		{"docker", true, false}, {"api.moby.localhost", true, false}, {"%2Fvar%2Frun%2Fdocker.sock", true, false},
		{"[::1", false, false}, {"::1", false, false}, {"::1]", false, false}, {"[::1]]", false, false}, {"[[::1]]", false, false}, {"[::1]7077", false, false}, {"[::1]:x", false, false},
		{"[127.0.0.1]", false, false}, {"[localhost]", false, false}, {"[]", false, false}, {"[::1%25lo]", false, false}, {"localhost:7077:7077", false, false}, {"localhost:+1", false, false},
		{"localhost:-1", false, false}, {"localhost:70777777", false, false}, {"localhost]", false, false}, {"local[host", false, false}, {"2001:db8::1", false, false},
	} {
		r := &http.Request{Host: c.host}
		if err := auth.CheckHost(r); (err == nil) != c.formed || err != nil && puller.KindOf(err) != puller.ErrInvalidRequest {
			t.Errorf("%q: %v", c.host, err)
		}
		if got := hosts.Has(r); got != c.ours {
			t.Errorf("%q is the daemon's: %t", c.host, got)
		}
	}
}
