package api_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/puller"
)

func TestALoginIsASessionOfItsToken(t *testing.T) {
	d := start(t)
	path := tokenFile(t, everyone())
	said := &safeBuffer{}
	g := d.guarded(func(o *api.Options) { o.Tokens = openTokens(t, path, said) })
	login := func(token string) answer { return g.call("POST", "/v1/session", `{"token":"`+token+`"}`) }
	for token, detail := range map[string]string{"canary-nobody": "not known", late: "expired"} {
		if p := login(token).problem(t, http.StatusUnauthorized, puller.Unauthorized); !strings.Contains(p.Detail, detail) {
			t.Errorf("%s: %s", token, p.Detail)
		}
	}
	login("").problem(t, http.StatusBadRequest, puller.InvalidRequest)
	g.call("POST", "/v1/session", `{"tokn":"x"}`).problem(t, http.StatusBadRequest, puller.InvalidRequest)
	a := login(reader)
	set := a.header.Get("Set-Cookie")
	for _, want := range []string{"towline_session=", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Expires="} {
		if a.status != http.StatusOK || !strings.Contains(set, want) {
			t.Errorf("%d: %q lacks %q", a.status, set, want)
		}
	}
	if strings.Contains(set, "canary") || strings.Contains(a.body, "canary") || strings.Contains(set, hashOf(reader)) || strings.Contains(set, "Secure") {
		t.Errorf("the cookie is %q, the answer %s", set, a.body)
	}
	cookie, _, _ := strings.Cut(set, ";")
	with := []string{"Cookie", cookie}
	if a := g.call("GET", "/v1/jobs", "", with...); a.status != http.StatusOK {
		t.Errorf("with the session: %d %s", a.status, a.body)
	}
	g.call("POST", "/v1/pulls", `{"image":"alpine"}`, with...).problem(t, http.StatusForbidden, puller.Forbidden)
	second, _, _ := strings.Cut(login(reader).header.Get("Set-Cookie"), ";")
	if second == cookie {
		t.Error("two sessions are one")
	}
	a = g.call("DELETE", "/v1/session", "", with...)
	if a.status != http.StatusNoContent || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("the logout: %d %v", a.status, a.header)
	}
	g.call("GET", "/v1/jobs", "", with...).problem(t, http.StatusUnauthorized, puller.Unauthorized)
	if a := g.call("GET", "/v1/jobs", "", "Cookie", second); a.status != http.StatusOK {
		t.Errorf("the other session: %d", a.status)
	}
}

func TestASessionOverTLSIsForTLSOnly(t *testing.T) {
	h := api.New(nil, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Tokens: openTokens(t, tokenFile(t, everyone()), &safeBuffer{})})
	for _, state := range []*tls.ConnectionState{nil, {}} {
		r, _ := http.NewRequest("POST", "https://localhost/v1/session", strings.NewReader(`{"token":"`+reader+`"}`))
		r.Header.Set("Content-Type", "application/json")
		r.TLS = state
		w := &status{header: http.Header{}}
		h.ServeHTTP(w, r)
		if set := w.header.Get("Set-Cookie"); w.code != 200 || strings.Contains(set, "; Secure") != (state != nil) {
			t.Errorf("TLS %v: %d %q", state != nil, w.code, set)
		}
	}
}

func TestASessionEndsWithItsTokenAndItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := tokenFile(t, everyone())
		h := api.New(nil, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Tokens: openTokens(t, path, &safeBuffer{})})
		login := func(token string) (cookie string) {
			r, _ := http.NewRequest("POST", "http://localhost/v1/session", strings.NewReader(`{"token":"`+token+`"}`))
			r.Header.Set("Content-Type", "application/json")
			w := &status{header: http.Header{}}
			h.ServeHTTP(w, r)
			cookie, _, _ = strings.Cut(w.header.Get("Set-Cookie"), ";")
			return cookie
		}
		code := func(cookie string) int {
			r, _ := http.NewRequest("GET", "http://localhost/v1/session", nil)
			r.Header.Set("Cookie", cookie)
			w := &status{header: http.Header{}}
			h.ServeHTTP(w, r)
			return w.code
		}
		first := login(reader)
		if got := code(first); got != 200 {
			t.Fatal(got)
		}
		<-time.After(11 * time.Hour)
		second, other := login(reader), login(boss)
		if got := code(first); got != 200 {
			t.Errorf("after 11 h: %d", got)
		}
		<-time.After(time.Hour + time.Second)
		if got, still := code(first), code(second); got != 401 || still != 200 {
			t.Errorf("after 12 h: %d, the other one %d", got, still)
		}
		if err := os.WriteFile(path, []byte("tokens:\n"+listed("boss", boss, "admin")), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		if got, still := code(second), code(other); got != 401 || still != 200 {
			t.Errorf("when its token is gone: %d, another one's %d", got, still)
		}
		for range 1000 {
			login(boss)
		}
		if got, last := code(other), code(login(boss)); got != 401 || last != 200 {
			t.Errorf("after a thousand more: %d, the last one %d", got, last)
		}
	})
}
