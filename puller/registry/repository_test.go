package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

var (
	content  = bytes.Repeat([]byte("0123456789abcdef"), 64) // 1 KiB
	blobID   = fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	blobSize = int64(len(content))
)

// serveBlob serves the blob or a part of it as registries do.
func serveBlob(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", modified, bytes.NewReader(content))
}

// newRepository returns what reads a repository of a fake registry that answers with blob.
func newRepository(t *testing.T, f *fakeRegistry, blob http.HandlerFunc, c puller.Credentials) puller.Repository {
	t.Helper()
	f.refuses = blob
	r, err := newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.0/8", "localhost"}}).Repository(t.Context(), f.host+"/team/app:v1", c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read reads a part of the blob.
func read(t *testing.T, r puller.Repository, from, to int64) (part []byte, whole bool, err error) {
	t.Helper()
	b, err := r.Blob(t.Context(), blobID, from, to, blobSize)
	if err != nil {
		return nil, false, err
	}
	defer b.Close()
	part, err = io.ReadAll(b)
	return part, b.Whole, err
}

func TestBlob(t *testing.T) {
	login := `{"username":"ada","password":"` + secret + `"}`
	for name, c := range map[string]struct {
		scheme  string
		allowed func(*http.Request) bool
		json    string
	}{
		"public": {"", everyone, `{}`}, "basic": {"Basic", byPassword, login}, "token": {"Bearer", byToken, login},
	} {
		t.Run(name, func(t *testing.T) {
			ping := open
			if c.scheme != "" {
				ping = challenge(c.scheme)
			}
			r := newRepository(t, newFakeRegistry(t, ping, c.allowed), serveBlob, credentials(t, c.json))
			for _, p := range [][2]int64{{0, 1}, {0, 100}, {100, 1000}, {1023, 1024}, {0, 1024}} {
				got, whole, err := read(t, r, p[0], p[1])
				if err != nil || !bytes.Equal(got, content[p[0]:p[1]]) || whole != (p[1]-p[0] == blobSize) {
					t.Errorf("%v: %d bytes, whole %v, %v", p, len(got), whole, err)
				}
			}
		})
	}
}

func TestBlobRequest(t *testing.T) {
	f := newFakeRegistry(t, open, everyone)
	var seen []http.Header
	var protocols []string
	r := newRepository(t, f, func(w http.ResponseWriter, r *http.Request) {
		seen, protocols = append(seen, r.Header.Clone()), append(protocols, r.Proto)
		serveBlob(w, r)
	}, puller.Credentials{})
	for _, to := range []int64{10, blobSize} {
		if _, _, err := read(t, r, 0, to); err != nil {
			t.Fatal(err)
		}
	}
	want := []http.Header{
		{"Accept-Encoding": {"identity"}, "Range": {"bytes=0-9"}, "User-Agent": {"towline"}},
		{"Accept-Encoding": {"identity"}, "User-Agent": {"towline"}},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"HTTP/1.1", "HTTP/1.1"}, protocols); diff != "" {
		t.Error(diff)
	}
}

// certificates makes a directory in the form of Docker's certs.d that trusts a server.
func certificates(t *testing.T, s *httptest.Server) (dir string) {
	t.Helper()
	dir = t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	write(t, filepath.Join(dir, s.Listener.Addr().String(), "ca.crt"), string(authority), 0o600)
	return dir
}

// A server that knows HTTP/2 is asked with HTTP/1.1.
func TestBlobNoHTTP2(t *testing.T) {
	var protocols []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			protocols = append(protocols, r.Proto)
		}
		serveBlob(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	host := s.Listener.Addr().String()
	c := newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.1"}, Certificates: certificates(t, s)})
	r, err := c.Repository(t.Context(), host+"/team/app:v1", puller.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := read(t, r, 5, 10); err != nil || string(got) != "56789" {
		t.Errorf("%q, %v", got, err)
	}
	if diff := cmp.Diff([]string{"HTTP/1.1"}, protocols); diff != "" {
		t.Error(diff)
	}
}

// Only what was asked for is accepted.
func TestBlobAnswers(t *testing.T) {
	answer := func(status int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			w.Write(content[100:200])
		}
	}
	cut := func(length string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 100-199/1024")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			w.WriteHeader(http.StatusPartialContent)
			w.Write(content[100:150])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		kind   puller.ErrorKind // "" for success
		mark   error
	}{
		{"exact", answer(206, "Content-Range", "bytes 100-199/1024"), "", nil},
		{"exact, chunked", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 100-199/1024")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(content[100:150])
			http.NewResponseController(w).Flush()
			w.Write(content[150:200])
		}, "", nil},
		{"another beginning", answer(206, "Content-Range", "bytes 99-199/1024"), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"another end", answer(206, "Content-Range", "bytes 100-198/1024"), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"another size", answer(206, "Content-Range", "bytes 100-199/1025"), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"no size", answer(206, "Content-Range", "bytes 100-199/*"), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"no range", answer(206), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"several ranges", answer(206, "Content-Type", "multipart/byteranges; boundary=x"), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"another length", answer(206, "Content-Range", "bytes 100-199/1024", "Content-Length", "100000"), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"encoded", answer(206, "Content-Range", "bytes 100-199/1024", "Content-Encoding", "gzip"), puller.ErrCorrupt, nil},
		{"encoded whole", answer(200, "Content-Encoding", "zstd"), puller.ErrCorrupt, nil},
		{"identity", answer(206, "Content-Range", "bytes 100-199/1024", "Content-Encoding", "identity"), "", nil},
		{"a whole that is shorter", answer(200, "Content-Length", "100"), puller.ErrCorrupt, nil},
		{"no content", answer(204), puller.ErrCorrupt, nil},
		{"cut", cut("100"), puller.ErrInternal, io.ErrUnexpectedEOF},
		{"cut, chunked", cut(""), puller.ErrInternal, io.ErrUnexpectedEOF},
		{"a chunked end that is early", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 100-199/1024")
			w.WriteHeader(http.StatusPartialContent)
			http.NewResponseController(w).Flush()
		}, puller.ErrInternal, io.ErrUnexpectedEOF},
		{"400", answer(400), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"405", answer(405), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"416", answer(416), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"501", answer(501), puller.ErrRegistryUnavailable, puller.ErrNoRanges},
		{"401", answer(401), puller.ErrDenied, nil},
		{"403", answer(403), puller.ErrDenied, nil},
		{"404", answer(404), puller.ErrNotFound, nil},
		{"410", answer(410), puller.ErrNotFound, nil},
		{"500", answer(500), puller.ErrRegistryUnavailable, nil},
		{"302 to nowhere", answer(302), puller.ErrRegistryUnavailable, nil},
		{"302 to a file", answer(302, "Location", "file:///etc/passwd"), puller.ErrRegistryUnavailable, nil},
		{"302 to itself", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, puller.ErrRegistryUnavailable, nil},
		{"304", answer(304), puller.ErrCorrupt, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked int
			r := newRepository(t, newFakeRegistry(t, open, everyone), func(w http.ResponseWriter, r *http.Request) {
				asked++
				c.answer(w, r)
			}, puller.Credentials{})
			got, _, err := read(t, r, 100, 200)
			if c.kind == "" {
				if err != nil || !bytes.Equal(got, content[100:200]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			}
			if puller.KindOf(err) != c.kind || c.mark != nil && !errors.Is(err, c.mark) || c.mark == nil && errors.Is(err, puller.ErrNoRanges) {
				t.Errorf("kind %s, %v", puller.KindOf(err), err)
			}
			if c.name != "302 to itself" && asked != 1 || asked > 20 {
				t.Errorf("it was asked %d times", asked)
			}
		})
	}
}

func TestBlobWhole(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"with its length": func(w http.ResponseWriter, _ *http.Request) { w.Write(content) },
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(content[:10])
			http.NewResponseController(w).Flush()
			w.Write(content[10:])
		},
		"chunked, with more at its end": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(content)
			http.NewResponseController(w).Flush()
			w.Write(content)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t, newFakeRegistry(t, open, everyone), answer, puller.Credentials{})
			got, whole, err := read(t, r, 100, 200)
			if err != nil || !whole || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, whole %v, %v", len(got), whole, err)
			}
		})
	}
}

func TestBlobArguments(t *testing.T) {
	r := newRepository(t, newFakeRegistry(t, open, everyone), serveBlob, puller.Credentials{})
	for _, c := range []struct {
		id             string
		from, to, size int64
	}{
		{"", 0, 1, 1}, {"../../x", 0, 1, 1}, {"sha256:x", 0, 1, 1}, {blobID, -1, 1, 1}, {blobID, 0, 2, 1}, {blobID, 1, 1, 2}, {blobID, 2, 1, 2}, {blobID, 0, 0, -1},
	} {
		_, err := r.Blob(t.Context(), c.id, c.from, c.to, c.size)
		wantKind(t, err, puller.ErrInvalidRequest)
	}
}

func TestBlobBusy(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{429: puller.ErrRateLimited, 503: puller.ErrRegistryUnavailable} {
		for after, want := range map[string]int{"": 0, "7": 7} {
			r := newRepository(t, newFakeRegistry(t, open, everyone), func(w http.ResponseWriter, _ *http.Request) {
				if after != "" {
					w.Header().Set("Retry-After", after)
				}
				w.WriteHeader(status)
			}, login(t))
			_, _, err := read(t, r, 0, 10)
			if e := wantKind(t, err, kind); !errors.Is(err, puller.ErrBusy) || int(e.RetryAfter.Seconds()) != want {
				t.Errorf("%d: %+v", status, e)
			}
		}
	}
}

// A token that has expired is replaced.
func TestBlobTokenExpires(t *testing.T) {
	f := newFakeRegistry(t, open, everyone)
	f.refuses = serveBlob
	var mu sync.Mutex
	issued, valid := 0, ""
	inner := f.Config.Handler
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.URL.Path == "/token":
			issued++
			valid = fmt.Sprintf("short-lived-%d", issued)
			fmt.Fprintf(w, `{"token":"%s"}`, valid)
		case r.Header.Get("Authorization") != "Bearer "+valid || valid == "":
			challenge("Bearer")(w, r)
		default:
			inner.ServeHTTP(w, r)
		}
	})
	r := newRepository(t, f, serveBlob, login(t))
	for range 3 {
		if got, _, err := read(t, r, 0, 10); err != nil || string(got) != "0123456789" {
			t.Errorf("%q, %v", got, err)
		}
		mu.Lock()
		valid = "expired"
		mu.Unlock()
	}
	if issued != 3 {
		t.Errorf("%d tokens", issued)
	}
}

func TestRawManifest(t *testing.T) {
	f := newFakeRegistry(t, challenge("Basic"), byPassword)
	r := newRepository(t, f, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", blobID) // not true
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json; charset=utf-8")
		if strings.HasSuffix(r.URL.Path, "/large") {
			io.WriteString(w, strings.Repeat("x", 4<<20+1))
			return
		}
		io.WriteString(w, index)
	}, login(t))
	want := puller.RawManifest{Body: []byte(index), MediaType: "application/vnd.oci.image.index.v1+json", Digest: indexDigest}
	for _, id := range []string{"v1", indexDigest} {
		got, err := r.Manifest(t.Context(), id)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", id, err, diff)
		}
	}
	got, err := r.Referrers(t.Context(), blobID)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("referrers: %v %s", err, diff)
	}
	for id, kind := range map[string]puller.ErrorKind{
		blobID: puller.ErrCorrupt, "large": puller.ErrInvalidRequest,
		"": puller.ErrInvalidRequest, "../v1": puller.ErrInvalidRequest, "a b": puller.ErrInvalidRequest, "sha256:1": puller.ErrInvalidRequest, strings.Repeat("x", 129): puller.ErrInvalidRequest,
	} {
		_, err := r.Manifest(t.Context(), id)
		wantKind(t, err, kind)
		if _, err := r.Referrers(t.Context(), id); id != blobID {
			wantKind(t, err, puller.ErrInvalidRequest)
		}
	}
}

func TestReferrersNone(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{
		404: puller.ErrNotFound, 405: puller.ErrNotFound, 501: puller.ErrNotFound, 403: puller.ErrDenied, 429: puller.ErrRateLimited, 500: puller.ErrRegistryUnavailable,
	} {
		r := newRepository(t, newFakeRegistry(t, open, everyone), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }, puller.Credentials{})
		_, err := r.Referrers(t.Context(), blobID)
		wantKind(t, err, kind)
	}
}

func TestRepositoryCredentials(t *testing.T) {
	c := newClient(t)
	if _, err := c.Repository(t.Context(), "no image:", puller.Credentials{}); puller.KindOf(err) != puller.ErrInvalidRequest {
		t.Error(err)
	}
	f := newFakeRegistry(t, challenge("Basic"), byPassword)
	r := newRepository(t, f, serveBlob, credentials(t, `{"username":"ada","password":"`+secret+`x"}`))
	_, _, err := read(t, r, 0, 1)
	wantKind(t, err, puller.ErrDenied)
	wantNoSecret(t, err)
}

func TestBlobPrivateAddress(t *testing.T) {
	f := newFakeRegistry(t, open, everyone)
	f.refuses = serveBlob
	c := newClientWith(t, registry.Options{})
	r, err := c.Repository(t.Context(), f.host+"/team/app:v1", puller.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = read(t, r, 0, 1)
	wantKind(t, err, puller.ErrForbidden)

	w := newRequestLog(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(w.Listener.Addr().String())
	_, own, _ := net.SplitHostPort(f.host)
	c = newClientWith(t, registry.Options{AllowPrivate: []string{"localhost"}})
	for _, to := range []string{"http://127.0.0.1:" + port, "http://169.254.169.254", "http://[::ffff:7f00:1]:" + port} {
		f.refuses = func(out http.ResponseWriter, r *http.Request) {
			http.Redirect(out, r, to+"/internal", http.StatusTemporaryRedirect)
		}
		r, err := c.Repository(t.Context(), "localhost:"+own+"/team/app:v1", puller.Credentials{})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = read(t, r, 0, 1)
		wantKind(t, err, puller.ErrForbidden)
	}
	if said := w.calls(); len(said) > 0 {
		t.Errorf("requests: %q", said)
	}
}
