package auth

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiterPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(2)
		for i := range 1000 {
			l.Allow(fmt.Sprint(i))
		}
		for range 2 {
			l.Allow("busy")
		}
		if n := len(l.spent); n != 1001 {
			t.Errorf("%d callers are known", n)
		}
		<-time.After(time.Second)
		l.Allow("next")
		if n := len(l.spent); n != 1 {
			t.Errorf("a second later %d callers are known", n)
		}
	})
}

func TestStranger(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1": "addr:192.0.2.7", "[::ffff:192.0.2.7]:1": "addr:192.0.2.7", "[2001:db8::1:2:3:4]:1": "addr:2001:db8::",
		"[2001:db8::5:6:7:8]:9": "addr:2001:db8::", "[fe80::1%eth0]:1": "addr:fe80::", "@": "addr:", "": "addr:", "pipe": "addr:",
	} {
		if got := Stranger(remote); got != want {
			t.Errorf("%q is %s, not %s", remote, got, want)
		}
	}
}
