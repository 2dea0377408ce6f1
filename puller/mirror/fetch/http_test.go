package fetch_test

import (
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/registry"
)

// server is a registry or its storage.
type server struct {
	*httptest.Server
	size     int64
	requests atomic.Int64 // for blobs
	open     atomic.Int64
	sent     atomic.Int64
	auth     sync.Map // Authorization headers of requests for blobs
}

func newServer(t *testing.T, size int64, blob func(s *server, w http.ResponseWriter, r *http.Request, n int64)) *server {
	t.Helper()
	s := &server{size: size}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "blob") && r.URL.Path != "/token" {
			return
		}
		s.auth.Store(r.Header.Get("Authorization"), true)
		s.open.Add(1)
		defer s.open.Add(-1)
		blob(s, w, r, s.requests.Add(1))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// host has a name that is not the address of other servers.
func (s *server) host() string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return "localhost:" + port
}

// serve serves the range that was asked for, up to most bytes.
func (s *server) serve(w http.ResponseWriter, r *http.Request, most int64) {
	from, to := int64(0), s.size
	if h, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		a, b, _ := strings.Cut(h, "-")
		from, _ = strconv.ParseInt(a, 10, 64)
		to, _ = strconv.ParseInt(b, 10, 64)
		to++
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, s.size))
		w.Header().Set("Content-Length", fmt.Sprint(to-from))
		w.WriteHeader(http.StatusPartialContent)
	}
	s.write(w, from, min(to, from+most))
	if to-from > most {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func (s *server) write(w io.Writer, from, to int64) {
	p := make([]byte, 64*kib)
	for from < to {
		n := min(int64(len(p)), to-from)
		fill(p[:n], from)
		sent, err := w.Write(p[:n])
		s.sent.Add(int64(sent))
		if err != nil {
			return
		}
		from += n
	}
}

const all = int64(1) << 40

// The registry client and the fetcher together.
func TestRegistry(t *testing.T) {
	const size = 4 * mib
	const login = "Basic YWRhOnNlY3JldA==" // ada:secret
	for _, c := range []struct {
		name string
		blob func(s *server, w http.ResponseWriter, r *http.Request, n int64)
		kind puller.ErrorKind // "" for success
		most int64            // bytes that are sent
	}{
		{"ranges", func(s *server, w http.ResponseWriter, r *http.Request, n int64) { s.serve(w, r, all) }, "", size},
		{"whole_instead", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			r.Header.Del("Range")
			w.Header().Set("Content-Length", fmt.Sprint(s.size))
			s.serve(w, r, all)
		}, "", 5 * size}, // those that were made at a time
		{"whole_without_length", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			r.Header.Del("Range")
			http.NewResponseController(w).Flush()
			s.serve(w, r, all)
		}, "", 5 * size},
		{"wrong_range", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.Header.Get("Range") == "" {
				s.serve(w, r, all)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", s.size))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, 10))
		}, "", size},
		{"400", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			s.serve(w, r, all)
		}, "", size},
		{"416", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			s.serve(w, r, all)
		}, "", size},
		{"every_third_is_cut", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if n%3 == 0 {
				s.serve(w, r, 70*kib)
				return
			}
			s.serve(w, r, all)
		}, "", size},
		{"gzip", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			w.Header().Set("Content-Encoding", "gzip")
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", r.Header.Get("Range"))
				w.WriteHeader(http.StatusPartialContent)
			}
			z := gzip.NewWriter(w)
			s.write(z, 0, 100)
			z.Close()
		}, puller.ErrCorrupt, size},
		{"gone", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if n > 5 {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			s.serve(w, r, all)
		}, puller.ErrNotFound, size},
		{"wrong_size", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			w.Header().Set("Content-Length", "10")
			w.Write(make([]byte, 10))
		}, puller.ErrCorrupt, size},
		{"busy", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if n == 5 {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			s.serve(w, r, all)
		}, "", size},
		{"login", func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.Header.Get("Authorization") != login {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			s.serve(w, r, all)
		}, "", size},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, size, c.blob)
			got, err := fetchFrom(t, s)
			if c.kind == "" {
				got.check(t)
			}
			if puller.KindOf(err) != c.kind || s.sent.Load() > c.most {
				t.Errorf("%v, %d bytes were sent", err, s.sent.Load())
			}
		})
	}
	t.Run("token_expires", func(t *testing.T) {
		var issued, expired atomic.Int64
		s := newServer(t, size, func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.URL.Path == "/token" {
				fmt.Fprintf(w, `{"token":"%d"}`, issued.Add(1))
				return
			}
			token, _ := strconv.ParseInt(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), 10, 64)
			if s.sent.Load() > size/2 {
				expired.CompareAndSwap(0, issued.Load())
			}
			if token <= expired.Load() {
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			s.serve(w, r, all)
		})
		got, err := fetchFrom(t, s)
		got.check(t)
		if err != nil || issued.Load() <= expired.Load() || expired.Load() == 0 || s.sent.Load() != size {
			t.Errorf("%v, %d tokens, %d bytes", err, issued.Load(), s.sent.Load())
		}
	})
	t.Run("signed_url_expires", func(t *testing.T) {
		var issued, used atomic.Int64
		storage := newServer(t, size, func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.URL.Query().Get("sig") != fmt.Sprint(issued.Load()) || used.Add(1)%20 == 0 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			s.serve(w, r, all)
		})
		s := newServer(t, size, func(s *server, w http.ResponseWriter, r *http.Request, n int64) {
			if r.Header.Get("Authorization") != login {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, fmt.Sprint("http://", storage.host(), "/blob?sig=", issued.Add(1)), http.StatusTemporaryRedirect)
		})
		got, err := fetchFrom(t, s)
		got.check(t)
		storage.Close()
		if err != nil || issued.Load() < 3 || issued.Load() > 20 || storage.sent.Load() != size {
			t.Errorf("%v, %d URLs, %d bytes", err, issued.Load(), storage.sent.Load())
		}
		storage.auth.Range(func(h, _ any) bool {
			if h != "" {
				t.Errorf("the storage saw %q", h)
			}
			return true
		})
	})
}

// fetchFrom fetches a blob in pieces of 64 KiB.
func fetchFrom(t *testing.T, s *server) (*sink, error) {
	t.Helper()
	client, err := registry.New(registry.Options{AllowPrivate: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	credentials, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"secret"}`)))
	if err != nil {
		t.Fatal(err)
	}
	repository, err := client.Repository(t.Context(), s.host()+"/team/app:v1", credentials)
	if err != nil {
		t.Fatal(err)
	}
	got := newSink("sha256:"+strings.Repeat("ab", 32), s.size)
	f := fetch.New(fetch.Options{Chunk: 64 * kib, Stall: time.Minute})
	err = f.Fetch(t.Context(), fetch.Work{Repository: repository, Registry: s.host(), Sinks: []fetch.Sink{got}})
	s.Close() // waits until it has counted what it sent
	return got, err
}
