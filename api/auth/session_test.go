package auth_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
)

func TestASessionOverTLSIsForTLSOnly(t *testing.T) {
	tokens := authtest.Open(t, authtest.File(t, both()), io.Discard)
	for _, state := range []*tls.ConnectionState{nil, {}} {
		r := httptest.NewRequest("POST", "/", nil)
		r.TLS = state
		_, cookie, err := auth.NewSessions().Begin(r, tokens, reader)
		if err != nil || cookie.Secure != (state != nil) {
			t.Errorf("TLS %v: %v, %v", state != nil, cookie, err)
		}
	}
}

func TestASessionEndsWithItsTokenAndItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := authtest.File(t, both())
		tokens, sessions := authtest.Open(t, path, io.Discard), auth.NewSessions()
		login := func(token string) *http.Cookie {
			_, cookie, err := sessions.Begin(httptest.NewRequest("POST", "/", nil), tokens, token)
			if err != nil {
				t.Fatal(err)
			}
			return cookie
		}
		lives := func(cookie *http.Cookie) bool {
			r := httptest.NewRequest("GET", "/", nil)
			r.AddCookie(cookie)
			_, err := auth.Identify(r, tokens, sessions)
			return err == nil
		}
		first := login(reader)
		if !lives(first) {
			t.Fatal("it does not begin")
		}
		<-time.After(11 * time.Hour)
		second, other := login(reader), login(boss)
		if !lives(first) {
			t.Error("after 11 h it has ended")
		}
		<-time.After(time.Hour + time.Second)
		if got, still := lives(first), lives(second); got || !still {
			t.Errorf("after 12 h it lives: %v, the other one %v", got, still)
		}
		if err := os.WriteFile(path, []byte("tokens:\n"+authtest.Listed("boss", boss, "admin")), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		if got, still := lives(second), lives(other); got || !still {
			t.Errorf("when its token is gone it lives: %v, another one's %v", got, still)
		}
		for range 1000 {
			login(boss)
		}
		if got, last := lives(other), lives(login(boss)); got || !last {
			t.Errorf("after a thousand more it lives: %v, the last one %v", got, last)
		}
	})
}
