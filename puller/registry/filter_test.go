package registry_test

import (
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

// requestLog is a server that records its requests.
type requestLog struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // of each: method, URL, Authorization, Cookie, form
}

func newRequestLog(t *testing.T, address string) *requestLog {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	w := &requestLog{}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		w.mu.Lock()
		w.requests = append(w.requests, strings.Join([]string{r.Method, r.URL.String(), r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Form.Encode()}, " "))
		w.mu.Unlock()
		out.Header().Set("Docker-Content-Digest", digest)
		out.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		out.Header().Set("Content-Length", "100")
	}))
	w.Listener.Close()
	w.Listener = l
	w.Start()
	t.Cleanup(w.Close)
	return w
}

func (w *requestLog) calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

func login(t *testing.T) puller.Credentials {
	return credentials(t, `{"username":"ada","password":"`+secret+`"}`)
}

func TestPrivateRegistry(t *testing.T) {
	w := newRequestLog(t, "127.0.0.1:0")
	c := newClientWith(t, registry.Options{})
	_, port, _ := net.SplitHostPort(w.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port} {
		_, err := c.Head(t.Context(), host+"/team/app:v1", login(t))
		if puller.KindOf(err) != puller.ErrForbidden || !strings.Contains(err.Error(), "registries.allow_private") {
			t.Errorf("%s: %v", host, err)
		}
		_, err = c.Manifest(t.Context(), puller.ManifestQuery{Image: host + "/team/app:v1", Platform: "linux/amd64"})
		if puller.KindOf(err) != puller.ErrForbidden {
			t.Errorf("%s: %v", host, err)
		}
	}
	if said := w.calls(); len(said) > 0 {
		t.Errorf("requests: %q", said)
	}
	// An allowed host may have any address.
	c = newClientWith(t, registry.Options{AllowPrivate: []string{"localhost"}})
	if got, err := c.Head(t.Context(), "localhost:"+port+"/team/app:v1", puller.Credentials{}); err != nil || got != digest {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := c.Head(t.Context(), "127.0.0.1:"+port+"/team/app:v1", puller.Credentials{}); puller.KindOf(err) != puller.ErrForbidden {
		t.Errorf("by another name: %v", err)
	}
}

func TestMetadataAddress(t *testing.T) {
	c := newClientWith(t, registry.Options{AllowPrivate: []string{"0.0.0.0/0", "::/0", "169.254.169.254"}})
	for _, host := range []string{"169.254.169.254", "169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:a9fe:a9fe]:80"} {
		_, err := c.Head(t.Context(), host+"/latest/meta-data:v1", puller.Credentials{})
		if puller.KindOf(err) != puller.ErrForbidden || !strings.Contains(err.Error(), "metadata") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestPrivateTokenServer(t *testing.T) {
	w := newRequestLog(t, "127.0.0.2:0")
	for _, realm := range []string{w.URL + "/token", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.2]:1/token", "gopher://127.0.0.2/", "file:///etc/passwd"} {
		f := newFakeRegistry(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, byToken)
		c := newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.1"}})
		_, err := c.Head(t.Context(), f.host+"/team/app:v1", login(t))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", realm, err)
		}
	}
	if said := w.calls(); len(said) > 0 {
		t.Errorf("requests: %q", said)
	}
}

func TestRedirectToPrivateAddress(t *testing.T) {
	w := newRequestLog(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(w.Listener.Addr().String())
	f := newFakeRegistry(t, open, everyone)
	// One name of the host is allowed; the redirects name others.
	_, own, _ := net.SplitHostPort(f.host)
	c := newClientWith(t, registry.Options{AllowPrivate: []string{"localhost"}})
	for _, to := range []string{"http://127.0.0.1:" + port, "http://169.254.169.254", "http://[::ffff:7f00:1]:" + port} {
		f.refuses = func(out http.ResponseWriter, r *http.Request) {
			http.Redirect(out, r, to+"/internal", http.StatusTemporaryRedirect)
		}
		if _, err := c.Head(t.Context(), "localhost:"+own+"/team/app:v1", puller.Credentials{}); err == nil {
			t.Errorf("%s: it was followed", to)
		}
	}
	if said := w.calls(); len(said) > 0 {
		t.Errorf("requests: %q", said)
	}
}

func TestRedirectWithoutCredentials(t *testing.T) {
	token := credentials(t, `{"identitytoken":"`+secret+`"}`)
	for _, c := range []struct {
		name  string
		ping  http.HandlerFunc
		check func(*http.Request) bool
		with  puller.Credentials
		at    string // the path that is redirected
	}{
		{"by password", challenge("Basic"), byPassword, login(t), "/v2/"},
		{"by token", challenge("Bearer"), byToken, login(t), "/v2/"},
		{"the realm, asked by password", challenge("Bearer"), byToken, login(t), "/token"},
		{"the realm, asked by refresh token", challenge("Bearer"), byToken, token, "/token"},
		{"the ping", challenge("Basic"), byPassword, login(t), "/ping"},
	} {
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
			t.Run(c.name, func(t *testing.T) {
				w := newRequestLog(t, "127.0.0.1:0")
				_, port, _ := net.SplitHostPort(w.Listener.Addr().String())
				away := func(out http.ResponseWriter, r *http.Request) {
					to := url.URL{Scheme: "http", Host: "localhost:" + port, Path: "/elsewhere", RawQuery: r.URL.RawQuery}
					http.Redirect(out, r, to.String(), status)
				}
				ping := c.ping
				if c.at == "/ping" {
					ping = away
				}
				f := newFakeRegistry(t, ping, c.check)
				if c.at == "/v2/" {
					f.refuses = away
				}
				if c.at == "/token" {
					inner := f.Config.Handler
					f.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/token" {
							away(out, r)
							return
						}
						inner.ServeHTTP(out, r)
					})
				}
				_, err := newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.1", "localhost"}}).Head(t.Context(), f.host+"/team/app:v1", c.with)
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the error has the secret in it: %v", err)
				}
				for _, said := range w.calls() {
					if strings.Contains(said, secret) || strings.Contains(said, "short-lived") || strings.Contains(said, "Basic ") {
						t.Errorf("with %d: request %q (%v)", status, said, err)
					}
				}
				if c.at == "/v2/" && len(w.calls()) == 0 {
					t.Errorf("with %d: no request: %v", status, err)
				}
			})
		}
	}
}

func TestErrorWithoutQuotedHeader(t *testing.T) {
	f := newFakeRegistry(t, challenge("Basic"), everyone)
	f.refuses = func(out http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		out.Header().Set("Content-Type", "application/json")
		out.WriteHeader(http.StatusForbidden)
		out.Write([]byte(`{"errors":[{"code":"DENIED","message":"` + user + " with " + password + " and " + r.Header.Get("Authorization") + `"}]}`))
	}
	basic := base64.StdEncoding.EncodeToString([]byte("ada:" + secret))
	_, err := newClient(t).Manifest(t.Context(), puller.ManifestQuery{Image: f.host + "/team/app:v1", Platform: "linux/amd64", Credentials: login(t)})
	if puller.KindOf(err) != puller.ErrDenied || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), basic) {
		t.Errorf("%v", err)
	}
}
