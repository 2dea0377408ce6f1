package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/puller"
)

func TestSession(t *testing.T) {
	d := start(t)
	path := authtest.File(t, everyone())
	said := &apitest.Log{}
	g := d.guarded(func(o *api.Options) { o.Tokens = authtest.Open(t, path, said) })
	login := func(token string) answer { return g.call("POST", "/v1/session", `{"token":"`+token+`"}`) }
	for token, detail := range map[string]string{"canary-nobody": "not known", late: "expired"} {
		if p := login(token).problem(t, http.StatusUnauthorized, puller.ErrUnauthorized); !strings.Contains(p.Detail, detail) {
			t.Errorf("%s: %s", token, p.Detail)
		}
	}
	login("").problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
	g.call("POST", "/v1/session", `{"tokn":"x"}`).problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
	a := login(reader)
	set := a.Header.Get("Set-Cookie")
	for _, want := range []string{"towline_session=", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Expires="} {
		if a.Status != http.StatusOK || !strings.Contains(set, want) {
			t.Errorf("%d: %q lacks %q", a.Status, set, want)
		}
	}
	if strings.Contains(set, "canary") || strings.Contains(a.Body, "canary") || strings.Contains(set, authtest.Hash(reader)) || strings.Contains(set, "Secure") {
		t.Errorf("the cookie is %q, the answer %s", set, a.Body)
	}
	cookie, _, _ := strings.Cut(set, ";")
	with := []string{"Cookie", cookie}
	if a := g.call("GET", "/v1/jobs", "", with...); a.Status != http.StatusOK {
		t.Errorf("with the session: %d %s", a.Status, a.Body)
	}
	g.call("POST", "/v1/pulls", `{"image":"alpine"}`, with...).problem(t, http.StatusForbidden, puller.ErrForbidden)
	second, _, _ := strings.Cut(login(reader).Header.Get("Set-Cookie"), ";")
	if second == cookie {
		t.Error("two sessions are one")
	}
	a = g.call("DELETE", "/v1/session", "", with...)
	if a.Status != http.StatusNoContent || !strings.Contains(a.Header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("the logout: %d %v", a.Status, a.Header)
	}
	g.call("GET", "/v1/jobs", "", with...).problem(t, http.StatusUnauthorized, puller.ErrUnauthorized)
	if a := g.call("GET", "/v1/jobs", "", "Cookie", second); a.Status != http.StatusOK {
		t.Errorf("the other session: %d", a.Status)
	}
}
