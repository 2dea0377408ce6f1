package api_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
)

func TestForgedHost(t *testing.T) {
	d := start(t)
	g := d.guarded(func(o *api.Options) { o.Hosts = []string{"CI.test", "10.0.0.7:7077"} })
	own := strings.TrimPrefix(g.URL, "http://")
	_, port, _ := net.SplitHostPort(own)
	for host, fine := range map[string]bool{
		own: true, "localhost": true, "localhost:" + port: true, "LocalHost.": true, "127.0.0.1": true, "127.0.0.1:9": true,
		"[::1]:" + port: true, "[::1]": true, "ci.test": true, "ci.test:443": true, "CI.TEST": true, "10.0.0.7": true,
		"evil.test": false, "evil.test:" + port: false, "localhost.evil.test": false, "ci.test.evil.test": false, "xci.test": false,
		"127.0.0.2": false, "[::2]": false, "0.0.0.0": false, "127.1": false, "2130706433": false, "localhost:80:80": false, "ci.test@evil.test": false,
	} {
		for _, path := range []string{"/v1/jobs", "/healthz"} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", g.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			r.Header.Set("Authorization", "Bearer "+boss)
			resp, err := g.Client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			a := answer{apitest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(raw)}}
			if fine != (a.Status == http.StatusOK) {
				t.Errorf("%s as %q: %d %s", path, host, a.Status, a.Body)
			}
			if !fine && a.Status != http.StatusBadRequest { // net/http refuses what is no host by itself
				if p := a.problem(t, http.StatusForbidden, puller.ErrForbidden); !strings.Contains(p.Detail, "auth.hosts") {
					t.Errorf("%q: %s", host, p.Detail)
				}
			}
		}
	}
}

func TestCrossOrigin(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	g := d.guarded()
	for _, r := range []struct {
		headers []string
		fine    bool
	}{
		{[]string{"Origin", "http://evil.test"}, false},
		{[]string{"Origin", "null"}, false},
		{[]string{"Origin", g.URL + ".evil.test"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site"}, false},
		{[]string{"Sec-Fetch-Site", "same-site"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site", "Origin", g.URL}, false},
		{[]string{"Origin", g.URL}, true},
		{[]string{"Sec-Fetch-Site", "same-origin", "Origin", g.URL}, true},
		{nil, true},
	} {
		a := g.call("POST", "/v1/pulls", `{"image":"alpine"}`, append(r.headers, bearer(boss)...)...)
		if !r.fine {
			a.problem(t, http.StatusForbidden, puller.ErrForbidden)
			for _, login := range []string{"/v1/session"} {
				g.call("POST", login, `{"token":"`+boss+`"}`, r.headers...).problem(t, http.StatusForbidden, puller.ErrForbidden)
			}
			continue
		}
		d.ended(a.job(t, http.StatusAccepted).ID)
	}
	a := g.call("OPTIONS", "/v1/pulls", "", append(bearer(boss), "Origin", "http://evil.test", "Access-Control-Request-Method", "POST")...)
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("another site is let in: %s", name)
		}
	}
	// GET changes nothing: it is not asked where it comes from, and no page can
	// read the answer.
	a = g.call("GET", "/v1/jobs", "", append(bearer(boss), "Origin", "http://evil.test")...)
	if a.Status != http.StatusOK || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a GET: %d %v", a.Status, a.Header)
	}
}

func TestFormBodies(t *testing.T) {
	g := start(t).guarded()
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/plain; application/json", "application/yaml"} {
		for path, body := range map[string]string{"/v1/pulls": `{"image":"alpine"}`, "/v1/runs": `{"image":"alpine"}`, "/v1/session": `{"token":"` + boss + `"}`, "/v1/prewarms": `{"images":["alpine"]}`} {
			if path == "/v1/prewarms" && media == "application/yaml" {
				continue
			}
			a := g.call("POST", path, body, append(bearer(boss), "Content-Type", media)...)
			if p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); !strings.HasPrefix(p.Detail, "Content-Type: ") {
				t.Errorf("%s as %q: %s", path, media, p.Detail)
			}
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		a := g.call(method, "/v1/jobs/01J", `{}`, bearer(boss)...)
		if p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); !strings.HasPrefix(p.Detail, "body: ") {
			t.Errorf("%s with a body: %s", method, p.Detail)
		}
	}
}
