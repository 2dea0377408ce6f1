package auth_test

import (
	"testing"

	"github.com/towline/towline/api/auth"
)

func TestStranger(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1": "addr:192.0.2.7", "[::ffff:192.0.2.7]:1": "addr:192.0.2.7", "[2001:db8::1:2:3:4]:1": "addr:2001:db8::",
		"[2001:db8::5:6:7:8]:9": "addr:2001:db8::", "[fe80::1%eth0]:1": "addr:fe80::", "@": "addr:", "": "addr:", "pipe": "addr:",
	} {
		if got := auth.Stranger(remote); got != want {
			t.Errorf("%q is %s, not %s", remote, got, want)
		}
	}
}
