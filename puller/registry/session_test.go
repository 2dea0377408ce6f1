package registry_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

var indexDigest = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(index)))

func serveIndex(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	w.Write([]byte(index))
}

// Some registries and proxies know no HEAD, refuse it, or tell no digest.
func TestHeadThenGet(t *testing.T) {
	for _, status := range []int{200, 403, 404, 405, 501} {
		f := newFakeRegistry(t, open, everyone)
		f.refuses = func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(status)
				return
			}
			serveIndex(w)
		}
		got, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", puller.Credentials{})
		if err != nil || got != indexDigest || f.heads != 1 || len(f.others) != 1 {
			t.Errorf("after a HEAD of %d it is %q, %v, with %d HEADs and %q", status, got, err, f.heads, f.others)
		}
		// What was read to learn the digest is not read again.
		_, err = newClient(t).Manifest(t.Context(), query(f.host+"/team/app:v1"))
		wantKind(t, err, puller.ErrPlatformMismatch)
		if len(f.others) != 2 {
			t.Errorf("after a HEAD of %d a manifest is read with %q", status, f.others[1:])
		}
	}
}

func TestHeadWithoutCountedGet(t *testing.T) {
	for _, status := range []int{200, 403, 404, 405, 501} {
		f := newFakeRegistry(t, open, everyone)
		f.refuses = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("RateLimit-Limit", "100;w=21600")
			w.WriteHeader(status)
		}
		if _, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", puller.Credentials{}); err == nil || len(f.others) > 0 {
			t.Errorf("after a HEAD of %d: %v, with %q", status, err, f.others)
		}
	}
}

// The error has the registry's own message. A HEAD has no body, so a GET follows.
func TestHeadRegistryMessage(t *testing.T) {
	for name, body := range map[string]string{
		"errors":  `{"errors":[{"code":"DENIED","message":"IP address 192.0.2.1 is not allowed\nto pull"}]}`,
		"details": `{"details":"IP address 192.0.2.1 is not allowed to pull"}`,
		"text":    "IP address 192.0.2.1 is not allowed to pull",
	} {
		f := newFakeRegistry(t, open, everyone)
		f.refuses = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", map[bool]string{true: "text/plain", false: "application/json"}[name == "text"])
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte(body))
		}
		_, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", puller.Credentials{})
		wantKind(t, err, puller.ErrDenied)
		if !strings.Contains(err.Error(), "IP address 192.0.2.1 is not allowed to pull") || !strings.Contains(err.Error(), "403 Forbidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Some have nothing at /v2/, or refuse it; others ask for a login only where they
// are asked for something.
func TestPingStatus(t *testing.T) {
	for _, status := range []int{200, 403, 404, 405, 500, 503} {
		f := newFakeRegistry(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }, everyone)
		inner := f.Config.Handler
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") && !byToken(r) {
				challenge("Bearer")(w, r)
				return
			}
			inner.ServeHTTP(w, r)
		})
		got, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", login(t))
		if err != nil || got != digest {
			t.Errorf("with %d at /v2/: %q, %v", status, got, err)
		}
	}
}

// A registry is asked over plain HTTP while TLS is tried. That question has no credentials,
// and is the only one where it is enough.
func TestPlainTry(t *testing.T) {
	for name, c := range map[string]struct {
		ping http.HandlerFunc
		want []string
	}{
		"open":   {open, []string{""}},
		"closed": {challenge("Basic"), []string{"", "", "Basic"}},
	} {
		t.Run(name, func(t *testing.T) {
			var shown []string
			f := newFakeRegistry(t, func(w http.ResponseWriter, r *http.Request) {
				scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
				shown = append(shown, scheme)
				if scheme == "" {
					c.ping(w, r)
				}
			}, everyone)
			if _, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", login(t)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, shown); diff != "" {
				t.Errorf("credentials of questions to /v2/ (-want +got):\n%s", diff)
			}
		})
	}
}

// The certificate of a registry with TLS is checked also where it may be called without:
// what it hears over plain HTTP counts for nothing.
func TestPlainTryTLS(t *testing.T) {
	var plain atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			plain.Add(1)
		}
		w.Header().Set("Docker-Content-Digest", digest)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // no log
	server.StartTLS()
	defer server.Close()
	_, err := newClient(t).Head(t.Context(), server.Listener.Addr().String()+"/team/app:v1", login(t))
	if err == nil || plain.Load() > 0 {
		t.Errorf("%v, and %d questions without TLS", err, plain.Load())
	}
}

func TestTokenForms(t *testing.T) {
	for body, kind := range map[string]puller.ErrorKind{
		`{"token":"short-lived"}`:                   "",
		`{"access_token":"short-lived"}`:            "",
		`{"token":"","access_token":"short-lived"}`: "",
		`{"token":"short-lived","access_token":""}`: "",
		`{"token":null,"expires_in":60}`:            puller.ErrInvalidRequest,
		`{}`:                                        puller.ErrInvalidRequest,
		``:                                          puller.ErrInvalidRequest,
		`<html>sign in to the network</html>`:       puller.ErrInvalidRequest,
		`{"errors":[{"code":"DENIED"}]}`:            puller.ErrInvalidRequest,
	} {
		f := newFakeRegistry(t, challenge("Bearer"), byToken)
		inner := f.Config.Handler
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				w.Write([]byte(body))
				return
			}
			inner.ServeHTTP(w, r)
		})
		got, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", login(t))
		if puller.KindOf(err) != kind || kind == "" && got != digest {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
}

func TestTokenRefused(t *testing.T) {
	for _, status := range []int{400, 401, 402, 403, 412, 429, 451, 500, 503} {
		f := newFakeRegistry(t, challenge("Bearer"), byToken)
		inner := f.Config.Handler
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				w.WriteHeader(status)
				return
			}
			inner.ServeHTTP(w, r)
		})
		_, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", login(t))
		wantKind(t, err, puller.KindOfStatus(status))
		wantNoSecret(t, err)
	}
}

func TestSeveralChallenges(t *testing.T) {
	f := newFakeRegistry(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("WWW-Authenticate", "Negotiate")
		w.Header().Add("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
	}, byPassword)
	if got, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", login(t)); err != nil || got != digest {
		t.Errorf("%q, %v", got, err)
	}
}

// The realm and a redirect may be at another private address, if that is listed.
func TestAllowedPrivateTokenServer(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch user, password, _ := r.BasicAuth(); {
		case r.URL.Path == "/moved":
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		case user == "ada" && password == secret:
			fmt.Fprint(w, `{"token":"short-lived"}`)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer tokens.Close()
	_, port, _ := strings.Cut(tokens.Listener.Addr().String(), ":")
	for _, c := range []struct {
		allowed []string
		ok      bool
	}{{[]string{"localhost", "127.0.0.1"}, true}, {[]string{"localhost"}, false}} {
		f := newFakeRegistry(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://127.0.0.1:`+port+`/token",service="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}, byToken)
		f.refuses = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:"+port+"/moved", http.StatusTemporaryRedirect)
		}
		_, own, _ := strings.Cut(f.host, ":")
		got, err := newClientWith(t, registry.Options{AllowPrivate: c.allowed}).Head(t.Context(), "localhost:"+own+"/team/app:v1", login(t))
		if c.ok != (err == nil) || c.ok && got != digest || !c.ok && puller.KindOf(err) != puller.ErrForbidden {
			t.Errorf("with %q: %q, %v", c.allowed, got, err)
		}
	}
}

func TestRedirectLoop(t *testing.T) {
	for _, at := range []string{"/v2/", "/v2/team/app/manifests/v1", "/token"} {
		var calls atomic.Int32
		f := newFakeRegistry(t, challenge("Bearer"), byToken)
		inner := f.Config.Handler
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, at) && (at != "/v2/" || !strings.Contains(r.URL.Path, "/manifests/")) && (byToken(r) || at != "/v2/team/app/manifests/v1") {
				calls.Add(1)
				http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
				return
			}
			inner.ServeHTTP(w, r)
		})
		_, err := newClient(t).Head(t.Context(), f.host+"/team/app:v1", login(t))
		wantKind(t, err, puller.ErrRegistryUnavailable)
		if n := calls.Load(); n == 0 || n > 20 { // of a HEAD and of a GET
			t.Errorf("%s: it was asked %d times: %v", at, n, err)
		}
	}
}

func TestManifestMediaType(t *testing.T) {
	for media, kind := range map[string]puller.ErrorKind{
		"application/vnd.oci.image.index.v1+json":                   puller.ErrPlatformMismatch,
		"application/vnd.oci.image.index.v1+json; charset=utf-8":    puller.ErrPlatformMismatch,
		"application/vnd.docker.distribution.manifest.list.v2+json": puller.ErrPlatformMismatch,
		"text/plain": puller.ErrInvalidRequest, "text/html; charset=utf-8": puller.ErrInvalidRequest, "application/octet-stream": puller.ErrInvalidRequest, "": puller.ErrInvalidRequest,
	} {
		f := newFakeRegistry(t, open, everyone)
		f.refuses = func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = []string{media}
			w.Header().Set("Docker-Content-Digest", indexDigest)
			if r.Method == http.MethodGet {
				w.Write([]byte(index))
			}
		}
		_, err := newClient(t).Manifest(t.Context(), query(f.host+"/team/app:v1"))
		wantKind(t, err, kind)
	}
}

func TestManifestMaxSize(t *testing.T) {
	whole := `{"schemaVersion":2,"manifests":[],"annotations":{"x":"` + strings.Repeat("x", 4<<20)
	whole = whole[:4<<20-3] + `"}}`
	f := newFakeRegistry(t, open, everyone)
	f.refuses = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		w.Write([]byte(whole))
	}
	_, err := newClient(t).Manifest(t.Context(), query(f.host+"/team/app:v1"))
	wantKind(t, err, puller.ErrPlatformMismatch)
}
