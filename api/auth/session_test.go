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

func TestSessionCookieOverTLS(t *testing.T) {
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

func TestSessionEnd(t *testing.T) {
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
			t.Fatal("the session does not begin")
		}
		<-time.After(11 * time.Hour)
		second, other := login(reader), login(boss)
		if !lives(first) {
			t.Error("after 11 h the session has ended")
		}
		<-time.After(time.Hour + time.Second)
		if got, still := lives(first), lives(second); got || !still {
			t.Errorf("after 12 h the session lives: %v, a later one: %v", got, still)
		}
		if err := os.WriteFile(path, []byte("tokens:\n"+authtest.Listed("boss", boss, "admin")), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		if got, still := lives(second), lives(other); got || !still {
			t.Errorf("without its token in the file the session lives: %v, another token's: %v", got, still)
		}
		if err := os.WriteFile(path, []byte(both()), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		second = login(reader)
		for range 1000 {
			login(boss)
		}
		if got, last := lives(other), lives(login(boss)); got || !last {
			t.Errorf("after 1,000 logins of its token a session lives: %v, the last one: %v", got, last)
		}
		if !lives(second) {
			t.Error("after 1,000 logins of one token the session of another one has ended")
		}
	})
}
