package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

var modified = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// storage serves blobs for signed URLs.
type storage struct {
	*httptest.Server
	asked  atomic.Int64 // for a URL
	served atomic.Int64 // requests
	valid  atomic.Int64 // the number of the URL that is valid
	// lifetime is what URLs say, "" for nothing.
	lifetime string

	mu      sync.Mutex
	headers []http.Header
	refuses http.HandlerFunc // what is answered for a URL that has expired
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	s := &storage{refuses: func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "expired: "+r.URL.String(), http.StatusForbidden)
	}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.served.Add(1)
		s.mu.Lock()
		s.headers = append(s.headers, r.Header.Clone())
		s.mu.Unlock()
		if r.URL.Query().Get("X-Amz-Signature") != fmt.Sprintf("5ec4e7-%d", s.valid.Load()) {
			s.refuses(w, r)
			return
		}
		serveBlob(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// redirect is the registry's answer: each URL makes those before it invalid.
func (s *storage) redirect(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	http.Redirect(w, r, fmt.Sprintf("%s/bucket/5ec4e7?X-Amz-Signature=5ec4e7-%d%s", s.URL, s.valid.Add(1), s.lifetime), http.StatusTemporaryRedirect)
}

// All ranges of a blob share one URL, which is asked for once, and again when it has
// expired.
func TestBlobLocationShared(t *testing.T) {
	s := newStorage(t)
	r := newRepository(t, newFakeRegistry(t, challenge("Bearer"), byToken), s.redirect, login(t))
	readAll := func() {
		var all sync.WaitGroup
		for i := range int64(16) {
			all.Go(func() {
				if got, _, err := read(t, r, i*64, i*64+64); err != nil || !bytes.Equal(got, content[i*64:i*64+64]) {
					t.Errorf("%d: %d bytes, %v", i, len(got), err)
				}
			})
		}
		all.Wait()
	}
	readAll()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("%d URLs for 16 ranges", n)
	}
	s.valid.Add(1)
	readAll()
	if n := s.asked.Load(); n != 2 {
		t.Errorf("%d URLs after the first has expired", n)
	}
	for _, h := range s.headers {
		if h.Get("Authorization") != "" || h.Get("Cookie") != "" || h.Get("Referer") != "" {
			t.Errorf("the storage saw %v", h)
		}
	}
}

func TestBlobLocationRefused(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{400: puller.ErrRegistryUnavailable, 401: puller.ErrDenied, 403: puller.ErrDenied, 404: puller.ErrNotFound, 500: puller.ErrRegistryUnavailable, 503: puller.ErrRegistryUnavailable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := newStorage(t)
			s.refuses = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(status)
				io.WriteString(w, r.URL.String())
			}
			r := newRepository(t, newFakeRegistry(t, challenge("Basic"), byPassword), s.redirect, login(t))
			if _, _, err := read(t, r, 0, 10); err != nil {
				t.Fatal(err)
			}
			s.valid.Store(1000)
			expires := status != 500 && status != 503
			got, _, err := read(t, r, 0, 10)
			if expires && (err != nil || len(got) != 10) || !expires && puller.KindOf(err) != kind {
				t.Errorf("a URL that has expired: %q, %v", got, err)
			}
			// One that never works is not asked for again and again.
			s.Server.Config.Handler = http.HandlerFunc(s.refuses)
			before := s.asked.Load()
			_, _, err = read(t, r, 0, 10)
			wantKind(t, err, kind)
			if n := s.asked.Load() - before; n > 2 {
				t.Errorf("%d URLs", n)
			}
			if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "5ec4e7") || strings.Contains(text, secret) {
				t.Errorf("the error has a signed URL in it: %s", text)
			}
			if status == 503 && !errors.Is(err, puller.ErrBusy) || status == 400 && !errors.Is(err, puller.ErrNoRanges) {
				t.Error(err)
			}
		})
	}
}

// A URL that expires before it is used the first time is found once more. One that never
// works is not asked for again and again.
func TestBlobLocationExpiresAtOnce(t *testing.T) {
	s := newStorage(t)
	refused, works := s.refuses, s.Server.Config.Handler
	var left atomic.Int64
	s.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left.Add(-1) >= 0 {
			refused(w, r)
			return
		}
		works.ServeHTTP(w, r)
	})
	for _, refusals := range []int64{1, 1000} {
		left.Store(refusals)
		before := s.asked.Load()
		r := newRepository(t, newFakeRegistry(t, open, everyone), s.redirect, puller.Credentials{})
		got, _, err := read(t, r, 0, 10)
		if refusals == 1 && (err != nil || len(got) != 10) || refusals > 1 && puller.KindOf(err) != puller.ErrDenied {
			t.Errorf("%d refusals: %q, %v", refusals, got, err)
		}
		if n := s.asked.Load() - before; n < 2 || n > 3 {
			t.Errorf("%d refusals: %d URLs", refusals, n)
		}
	}
}

func TestBlobLocationExpiry(t *testing.T) {
	now := time.Now().UTC()
	for _, c := range []struct {
		lifetime string
		urls     int64 // for two reads
	}{
		{"", 1},
		{"&X-Amz-Expires=0", 2},
		{"&X-Amz-Expires=300&X-Amz-Date=" + now.Format("20060102T150405Z"), 1},
		{"&X-Amz-Expires=300&X-Amz-Date=" + now.Add(-time.Hour).Format("20060102T150405Z"), 2},
		{"&X-Amz-Expires=9223372036854775807", 1},
		{"&X-Amz-Expires=soon", 1},
		{"&X-Goog-Expires=300&X-Goog-Date=" + now.Add(-time.Hour).Format("20060102T150405Z"), 2},
		{"&Expires=" + fmt.Sprint(now.Add(time.Hour).Unix()), 1},
		{"&Expires=" + fmt.Sprint(now.Add(-time.Hour).Unix()), 2},
		{"&Expires=9223372036854775807", 1},
		{"&se=" + now.Add(time.Hour).Format(time.RFC3339), 1},
		{"&se=" + now.Add(-time.Hour).Format(time.RFC3339), 2},
	} {
		s := newStorage(t)
		s.lifetime = c.lifetime
		r := newRepository(t, newFakeRegistry(t, open, everyone), s.redirect, puller.Credentials{})
		for range 2 {
			if _, _, err := read(t, r, 0, 10); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.asked.Load(); n != c.urls {
			t.Errorf("%q: %d URLs, not %d", c.lifetime, n, c.urls)
		}
	}
}

// The error of a storage that can't be reached has no more than its host in it, and the
// next read asks for another URL.
func TestBlobLocationGone(t *testing.T) {
	asked := 0
	r := newRepository(t, newFakeRegistry(t, open, everyone), func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "http://127.0.0.1:1/path-5ec4e7/blob?X-Amz-Signature=5ec4e7", http.StatusTemporaryRedirect)
	}, puller.Credentials{})
	for range 3 {
		_, _, err := read(t, r, 0, 10)
		wantKind(t, err, puller.ErrRegistryUnavailable)
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), "5ec4e7") || !strings.Contains(err.Error(), "http://127.0.0.1:1/…") {
			t.Error(err)
		}
	}
	if asked < 2 {
		t.Errorf("%d URLs", asked)
	}
}

// Storage may want a token of its own, which is asked for without credentials.
func TestBlobStorageToken(t *testing.T) {
	var seen []string
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		switch {
		case r.URL.Path == "/token":
			io.WriteString(w, `{"token":"anonymous"}`)
		case r.Header.Get("Authorization") != "Bearer anonymous":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="storage",scope="read"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			serveBlob(w, r)
		}
	}))
	t.Cleanup(s.Close)
	r := newRepository(t, newFakeRegistry(t, challenge("Basic"), byPassword), func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.URL+"/blob", http.StatusTemporaryRedirect)
	}, login(t))
	if got, _, err := read(t, r, 0, 10); err != nil || len(got) != 10 {
		t.Errorf("%q, %v", got, err)
	}
	for _, h := range seen {
		if h != "" && h != "Bearer anonymous" {
			t.Errorf("the storage saw %q", h)
		}
	}
}

// A registry with TLS that redirects to plain HTTP is followed only to insecure hosts.
func TestBlobRedirectToPlain(t *testing.T) {
	s := newStorage(t)
	to := strings.Replace(s.URL, "127.0.0.1", "127.0.0.1.nip.test", 1) // not on loopback by its name
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, to+"/blob?X-Amz-Signature=5ec4e7-0", http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(secure.Close)
	host := secure.Listener.Addr().String()
	c := newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.1"}, Certificates: certificates(t, secure)})
	r, err := c.Repository(t.Context(), host+"/team/app:v1", puller.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = read(t, r, 0, 10)
	wantKind(t, err, puller.ErrForbidden)
	if strings.Contains(err.Error(), "5ec4e7") {
		t.Error(err)
	}
	to = s.URL
	if got, _, err := read(t, r, 0, 10); err != nil || len(got) != 10 {
		t.Errorf("to loopback: %q, %v", got, err)
	}
}
