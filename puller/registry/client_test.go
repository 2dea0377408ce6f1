package registry_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

func TestHead(t *testing.T) {
	f := newFakeRegistry(t, open, everyone)
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

func TestHeadCredentials(t *testing.T) {
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
			f := newFakeRegistry(t, challenge(c.scheme), c.allowed)
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

func TestHeadRefused(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{
		401: puller.ErrDenied, 402: puller.ErrDenied, 403: puller.ErrDenied, 404: puller.ErrNotFound, 410: puller.ErrNotFound, 412: puller.ErrDenied, 423: puller.ErrDenied,
		429: puller.ErrRateLimited, 451: puller.ErrDenied, 408: puller.ErrRegistryUnavailable, 416: puller.ErrRegistryUnavailable, 425: puller.ErrRegistryUnavailable,
		500: puller.ErrRegistryUnavailable, 502: puller.ErrRegistryUnavailable, 503: puller.ErrRegistryUnavailable, 504: puller.ErrRegistryUnavailable,
		400: puller.ErrRegistryUnavailable, 418: puller.ErrRegistryUnavailable,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			f := newFakeRegistry(t, challenge("Basic"), byPassword)
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

func TestHeadRetryAfter(t *testing.T) {
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
			f := newFakeRegistry(t, open, everyone)
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
func TestHeadRetryAfterClock(t *testing.T) {
	for _, skew := range []time.Duration{-100 * time.Hour, -time.Minute, 0, 3 * time.Hour} {
		clock := time.Now().Add(skew)
		for _, value := range []string{
			clock.Add(time.Minute).UTC().Format(http.TimeFormat), fmt.Sprint(clock.Add(time.Minute).Unix()), fmt.Sprint(clock.Add(time.Minute).UnixMilli()),
		} {
			f := newFakeRegistry(t, open, everyone)
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

func TestHeadRateLimitedPing(t *testing.T) {
	f := newFakeRegistry(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "42")
		w.WriteHeader(http.StatusTooManyRequests)
	}, everyone)
	_, err := newClient(t).Head(t.Context(), f.host+"/good:v1", puller.Credentials{})
	if got := wantKind(t, err, puller.ErrRateLimited).RetryAfter; got != 42*time.Second {
		t.Errorf("it is to be left alone for %s", got)
	}
}

func TestHeadContextEnds(t *testing.T) {
	reached := make(chan struct{}, 1)
	f := newFakeRegistry(t, open, everyone)
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

func TestHeadUnreachable(t *testing.T) {
	const refusing = "127.0.0.1:1" // unlike a port that was just given back, nobody's
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(open))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for name, c := range map[string]struct{ host, says string }{
		"refused":                {refusing, ": no answer over https and http: dial tcp 127.0.0.1:1: connect: connection refused"},
		"TLS that nobody trusts": {untrusted.Listener.Addr().String(), "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t).Head(t.Context(), c.host+"/good:v1", credentials(t, `{"username":"ada","password":"`+secret+`"}`))
			wantKind(t, err, puller.ErrRegistryUnavailable)
			wantNoSecret(t, err)
			if text := err.Error(); !strings.Contains(text, c.says) || strings.Contains(text, "\n") {
				t.Errorf("it says %q", text)
			}
		})
	}
}

func TestHeadInvalidRequest(t *testing.T) {
	c := newClient(t)
	_, err := c.Head(t.Context(), "UPPER case", puller.Credentials{})
	wantKind(t, err, puller.ErrInvalidRequest)
	_, err = c.Head(t.Context(), "127.0.0.1:1/good:v1", credentials(t, `{"auth":"`+secret+`"}`))
	wantKind(t, err, puller.ErrInvalidRequest)
	wantNoSecret(t, err)
}
