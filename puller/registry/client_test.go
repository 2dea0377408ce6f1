package registry_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	digest = "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"
	secret = "hunter2-of-ada"
)

// fake is a registry on loopback.
type fake struct {
	*httptest.Server
	host string

	mu      sync.Mutex
	heads   int
	others  []string // calls for manifests that were no HEAD
	refuses http.HandlerFunc
}

// newFake starts a registry; ping answers /v2/, and allowed says whether a
// request for a manifest may pass.
func newFake(t *testing.T, ping http.HandlerFunc, allowed func(*http.Request) bool) *fake {
	t.Helper()
	f := &fake{}
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/{$}", func(w http.ResponseWriter, r *http.Request) { ping(w, r) })
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if r.Method == http.MethodHead {
			f.heads++
		} else {
			f.others = append(f.others, r.Method)
		}
		refuses := f.refuses
		f.mu.Unlock()
		switch {
		case !allowed(r):
			w.WriteHeader(http.StatusUnauthorized)
		case refuses != nil:
			refuses(w, r)
		default:
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			w.Header().Set("Content-Length", "100")
		}
	})
	mux.HandleFunc("/token", f.token)
	f.Server = httptest.NewUnstartedServer(mux)
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // what is refused is tested, not told
	f.Start()
	f.host = f.Listener.Addr().String()
	t.Cleanup(f.Close)
	return f
}

// token gives a token to ada, by password or by refresh token.
func (f *fake) token(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	r.ParseForm()
	if user == "ada" && password == secret || r.Form.Get("refresh_token") == secret {
		fmt.Fprint(w, `{"token":"short-lived","access_token":"short-lived"}`)
		return
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func open(http.ResponseWriter, *http.Request) {}

func challenge(scheme string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value := `Basic realm="registry"`
		if scheme == "Bearer" {
			value = `Bearer realm="http://` + r.Host + `/token",service="registry"`
		}
		w.Header().Set("WWW-Authenticate", value)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func everyone(*http.Request) bool { return true }

func byPassword(r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	return user == "ada" && password == secret
}

func byToken(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer short-lived" }

func newClient(t *testing.T) *registry.Client {
	t.Helper()
	return newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.0/8"}}) // where the fakes are
}

func newClientWith(t *testing.T, o registry.Options) *registry.Client {
	t.Helper()
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func credentials(t *testing.T, json string) puller.Credentials {
	t.Helper()
	c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(json)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantKind(t *testing.T, err error, kind puller.ErrorKind) *puller.Error {
	t.Helper()
	var e *puller.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("the error is %v, not of kind %s", err, kind)
	}
	return e
}

func TestHeadAnswersTheDigest(t *testing.T) {
	f := newFake(t, open, everyone)
	c := newClient(t)
	for _, image := range []string{"/good:v1", "/a/b/good:v1", "/good@" + digest, "/good:v1@" + digest} {
		got, err := c.Head(t.Context(), f.host+image, puller.Credentials{})
		if err != nil || got != digest {
			t.Errorf("%s: %q, %v", image, got, err)
		}
	}
	// A GET would count as a pull.
	if f.heads != 4 || len(f.others) != 0 {
		t.Errorf("it made %d HEADs and %q", f.heads, f.others)
	}
}

func TestHeadBringsCredentialsInEveryFormOfTheHeader(t *testing.T) {
	login := `{"username":"ada","password":"` + secret + `"}`
	auth := `{"auth":"` + base64.StdEncoding.EncodeToString([]byte("ada:"+secret)) + `"}`
	for _, c := range []struct {
		name, scheme string
		allowed      func(*http.Request) bool
		json         string
		ok           bool
	}{
		{"a login, basic", "Basic", byPassword, login, true},
		{"auth, basic", "Basic", byPassword, auth, true},
		{"a wrong login, basic", "Basic", byPassword, `{"username":"ada","password":"` + secret + `x"}`, false},
		{"none, basic", "Basic", byPassword, `{}`, false},
		{"a login, bearer", "Bearer", byToken, login, true},
		{"auth, bearer", "Bearer", byToken, auth, true},
		{"an identity token, bearer", "Bearer", byToken, `{"identitytoken":"` + secret + `"}`, true},
		{"a registry token, bearer", "Bearer", byToken, `{"registrytoken":"short-lived"}`, true},
		{"a wrong registry token, bearer", "Bearer", byToken, `{"registrytoken":"` + secret + `"}`, false},
		{"a wrong login, bearer", "Bearer", byToken, `{"username":"ada","password":"` + secret + `x"}`, false},
		{"a wrong identity token, bearer", "Bearer", byToken, `{"identitytoken":"` + secret + `x"}`, false},
		{"none, bearer", "Bearer", byToken, `{}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, challenge(c.scheme), c.allowed)
			got, err := newClient(t).Head(t.Context(), f.host+"/private:v1", credentials(t, c.json))
			if c.ok {
				if err != nil || got != digest {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			wantKind(t, err, puller.ErrDenied)
			wantNoSecret(t, err)
		})
	}
}

func wantNoSecret(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, format := range []string{"%v", "%+v", "%#v"} {
			text := fmt.Sprintf(format, e)
			for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte("ada:" + secret)), "short-lived"} {
				if strings.Contains(text, s) {
					t.Errorf("the error has the secret in it: %s", text)
				}
			}
		}
	}
}

func TestHeadGivesRefusalsTheirKind(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{
		401: puller.ErrDenied, 402: puller.ErrDenied, 403: puller.ErrDenied, 404: puller.ErrNotFound, 410: puller.ErrNotFound, 412: puller.ErrDenied, 423: puller.ErrDenied,
		429: puller.ErrRateLimited, 451: puller.ErrDenied, 408: puller.ErrRegistryUnavailable, 416: puller.ErrRegistryUnavailable, 425: puller.ErrRegistryUnavailable,
		500: puller.ErrRegistryUnavailable, 502: puller.ErrRegistryUnavailable, 503: puller.ErrRegistryUnavailable, 504: puller.ErrRegistryUnavailable,
		400: puller.ErrRegistryUnavailable, 418: puller.ErrRegistryUnavailable,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			f := newFake(t, challenge("Basic"), byPassword)
			f.refuses = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
			_, err := newClient(t).Head(t.Context(), f.host+"/good:v1", credentials(t, `{"username":"ada","password":"`+secret+`"}`))
			e := wantKind(t, err, kind)
			if e.Ref != f.host+"/good:v1" || e.RetryAfter != 0 {
				t.Errorf("the error is %+v", e)
			}
			wantNoSecret(t, err)
			// Whether to try again is for others to say.
			gets := 0
			if status == 403 || status == 404 { // its body tells why
				gets = 1
			}
			if f.heads != 1 || len(f.others) != gets {
				t.Errorf("it made %d HEADs and %q", f.heads, f.others)
			}
		})
	}
}

func TestHeadSaysHowLongARegistryWantsToBeLeftAlone(t *testing.T) {
	// Answers tell the registry's time in whole seconds.
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for _, c := range []struct {
		name          string
		header, value string
		least, most   time.Duration
	}{
		{"seconds", "Retry-After", "42", 42 * time.Second, 42 * time.Second},
		{"seconds with space around", "Retry-After", " 42 ", 42 * time.Second, 42 * time.Second},
		{"none at all", "Retry-After", "0", 0, 0},
		{"a date", "Retry-After", in(time.Hour).UTC().Format(http.TimeFormat), 59 * time.Minute, time.Hour + time.Second},
		{"a date that is past", "Retry-After", in(-time.Hour).UTC().Format(http.TimeFormat), 0, 0},
		{"missing", "", "", 0, 0},
		{"no time", "Retry-After", "soon", 0, 0},
		{"negative", "Retry-After", "-5", 0, 0},
		{"more than a duration holds", "Retry-After", "99999999999", 24 * time.Hour, 400 * 24 * time.Hour},
		{"more than an integer holds", "Retry-After", "99999999999999999999999", 0, 0},
		{"RateLimit-Reset, in seconds", "RateLimit-Reset", "30", 30 * time.Second, 30 * time.Second},
		{"X-RateLimit-Reset, a moment", "X-RateLimit-Reset", fmt.Sprint(in(time.Hour).Unix()), 59 * time.Minute, time.Hour + time.Second},
		{"a moment in seconds", "Retry-After", fmt.Sprint(in(time.Hour).Unix()), 59 * time.Minute, time.Hour + time.Second},
		{"a moment in milliseconds", "Retry-After", fmt.Sprint(in(time.Hour).UnixMilli()), 59 * time.Minute, time.Hour + time.Second},
		{"a moment that is past", "Retry-After", fmt.Sprint(in(-time.Hour).Unix()), 0, 0},
		{"X-RateLimit-Reset, a moment that is past", "X-RateLimit-Reset", fmt.Sprint(in(-time.Hour).Unix()), 0, 0},
		{"RateLimit-Reset that is none", "RateLimit-Reset", "x", 0, 0},
		{"RateLimit-Reset, absurd", "RateLimit-Reset", "999999999", time.Hour, 400 * 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, open, everyone)
			f.refuses = func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set(c.header, c.value)
				}
				w.WriteHeader(http.StatusTooManyRequests)
			}
			_, err := newClient(t).Head(t.Context(), f.host+"/good:v1", puller.Credentials{})
			if got := wantKind(t, err, puller.ErrRateLimited).RetryAfter; got < c.least || got > c.most {
				t.Errorf("it is to be left alone for %s, not between %s and %s", got, c.least, c.most)
			}
		})
	}
}

// Moments are by the registry's clock, which the answer tells.
func TestAMomentIsMeasuredByTheRegistrysClock(t *testing.T) {
	for _, skew := range []time.Duration{-100 * time.Hour, -time.Minute, 0, 3 * time.Hour} {
		clock := time.Now().Add(skew)
		for _, value := range []string{
			clock.Add(time.Minute).UTC().Format(http.TimeFormat), fmt.Sprint(clock.Add(time.Minute).Unix()), fmt.Sprint(clock.Add(time.Minute).UnixMilli()),
		} {
			f := newFake(t, open, everyone)
			f.refuses = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", clock.UTC().Format(http.TimeFormat))
				w.Header().Set("Retry-After", value)
				w.WriteHeader(http.StatusTooManyRequests)
			}
			_, err := newClient(t).Head(t.Context(), f.host+"/good:v1", puller.Credentials{})
			if got := wantKind(t, err, puller.ErrRateLimited).RetryAfter; got < 58*time.Second || got > 62*time.Second {
				t.Errorf("with a clock that is off by %s, %q is %s", skew, value, got)
			}
		}
	}
}

func TestARateLimitBeforeTheManifestIsOneToo(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "42")
		w.WriteHeader(http.StatusTooManyRequests)
	}, everyone)
	_, err := newClient(t).Head(t.Context(), f.host+"/good:v1", puller.Credentials{})
	if got := wantKind(t, err, puller.ErrRateLimited).RetryAfter; got != 42*time.Second {
		t.Errorf("it is to be left alone for %s", got)
	}
}

func TestHeadEndsWithItsContext(t *testing.T) {
	reached := make(chan struct{}, 1)
	f := newFake(t, open, everyone)
	f.refuses = func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
	}
	c := newClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	_, err := c.Head(ctx, f.host+"/good:v1", puller.Credentials{})
	wantKind(t, err, puller.ErrCanceled)

	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = c.Head(ctx, f.host+"/good:v1", puller.Credentials{})
	wantKind(t, err, puller.ErrRegistryUnavailable)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestARegistryThatCannotBeReachedIsUnavailable(t *testing.T) {
	const refusing = "127.0.0.1:1" // unlike a port that was just given back, nobody's
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(open))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for name, host := range map[string]string{"refused": refusing, "TLS that nobody trusts": untrusted.Listener.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t).Head(t.Context(), host+"/good:v1", credentials(t, `{"username":"ada","password":"`+secret+`"}`))
			wantKind(t, err, puller.ErrRegistryUnavailable)
			wantNoSecret(t, err)
		})
	}
}

func TestWhatIsNoReferenceOrNoLoginIsSaidToBe(t *testing.T) {
	c := newClient(t)
	_, err := c.Head(t.Context(), "UPPER case", puller.Credentials{})
	wantKind(t, err, puller.ErrInvalidRequest)
	_, err = c.Head(t.Context(), "127.0.0.1:1/good:v1", credentials(t, `{"auth":"`+secret+`"}`))
	wantKind(t, err, puller.ErrInvalidRequest)
	wantNoSecret(t, err)
}
