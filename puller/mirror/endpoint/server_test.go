package endpoint_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/endpoint"
)

func TestListen(t *testing.T) {
	listen := func(address string) (net.Listener, error) {
		return endpoint.New(endpoint.Options{Listen: address, Log: quiet()}).Listen()
	}
	l, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, bad := range []string{l.Addr().String(), "", "127.0.0.1", "localhost:7079", "0.0.0.0:0", "192.0.2.1:7079", "127.0.0.1:99999", "[::]:0"} {
		l, err := listen(bad)
		if err == nil {
			l.Close()
			t.Errorf("%s: listens", bad)
		} else if !strings.Contains(err.Error(), "mirror.listen") {
			t.Errorf("%s: the error names no setting: %v", bad, err)
		}
	}
}

// An engine tries https first, and http only after an answer that begins with HTTP/.
func TestTLSHello(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"now":     {},
		"Go 1.13": {MaxVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}},
		"TLS 1.2": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", serve(t, newContent()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			config.ServerName = "localhost"
			var header tls.RecordHeaderError
			if err := tls.Client(conn, config).Handshake(); !errors.As(err, &header) || string(header.RecordHeader[:]) != "HTTP/" {
				t.Errorf("the answer to a TLS hello is %v", err)
			}
		})
	}
}

func TestHost(t *testing.T) {
	c := newContent()
	address := serve(t, c)
	_, port, _ := net.SplitHostPort(address)
	for host, want := range map[string]int{
		address:                200,
		"localhost:" + port:    200,
		"127.0.0.1":            421,
		"localhost":            421,
		"127.0.0.1:1":          421,
		"evil.example:" + port: 421,
		"LOCALHOST:" + port:    421,
		"127.0.0.2:" + port:    421,
		"[::1]:" + port:        421,
		address + ".":          421,
	} {
		resp, body := ask(t, "GET", "http://"+address+"/v2/"+repository+"/manifests/x", func(r *http.Request) { r.Host = host })
		if resp.StatusCode != want {
			t.Errorf("Host %s: %s %s", host, resp.Status, body)
		}
	}
	if len(c.asked) != 2 {
		t.Errorf("asked: %v", c.asked)
	}
	t.Run("none", func(t *testing.T) {
		if got := raw(t, address, "GET /v2/ HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 421 ") {
			t.Errorf("got %.80q", got)
		}
	})
	t.Run("in the target", func(t *testing.T) {
		for _, target := range []string{"http://evil.example/v2/", "http://" + address + "/v2/"} {
			if got := raw(t, address, "GET "+target+" HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 421 ") {
				t.Errorf("%s: got %.80q", target, got)
			}
		}
	})
}

// raw sends bytes, and returns all that comes back.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(conn)
	return string(got)
}

func TestPaths(t *testing.T) {
	c := newContent()
	address := serve(t, c)
	long, digest := strings.Repeat("a", 256), digestOf(c.body)
	bad := []string{
		"", "/", "/v1/", "/v2", "/v2//", "/v2%2f", "/v2/_catalog", "/v2/" + repository + "/tags/list", "/v2/manifests/x", "/v2//manifests/x", "/v2/x",
		"/v2/../manifests/x", "/v2/a/../b/manifests/x", "/v2/a/./b/manifests/x", "/v2/a%2Fb/manifests/x", "/v2/%2e%2e/manifests/x", "/v2/a/manifests/%78",
		"/v2/A/manifests/x", "/v2/a//b/manifests/x", "/v2/a/manifests/", "/v2/a/manifests/x/", "/v2/a/manifests/-x", "/v2/a/manifests/x y",
		"/v2/a/blobs/x", "/v2/a/blobs/sha256:abc", "/v2/a/blobs/" + strings.ToUpper(digest), "/v2/a/blobs/uploads/", "/v2/a/referrers/x",
		"/v2/" + long + "/manifests/x", "/v2/a/manifests/" + long, "/v2/a/manifests/x?ns=", "/v2/a/manifests/x?ns=a/b", "/v2/a/manifests/x?ns=a&ns=b",
		"/v2/a/manifests/x?ns=" + long, "/v2/a/manifests/x?ns=..%2F..", "/v2/a/manifests/x#y", "/v2/a/manifests/x\\y", "/v2/a\x01/manifests/x",
		"//v2/a/manifests/x", "*", "v2/",
	}
	for _, path := range bad {
		got := raw(t, address, "GET "+path+" HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 404 ") && !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%.60q: got %.80q", path, got)
		}
	}
	if len(c.asked) > 0 {
		t.Errorf("asked: %v", c.asked)
	}
	for path, want := range map[string]string{
		"/v2/a/manifests/x":                             "manifest  a@x",
		"/v2/a/b__c-d.e/manifests/1.2-x?ns=docker.io":   "manifest docker.io a/b__c-d.e@1.2-x",
		"/v2/manifests/manifests/manifests":             "manifest  manifests@manifests",
		"/v2/a/blobs/" + digest + "?ns=r.example:5000":  "blob r.example:5000 a@" + digest,
		"/v2/a/blobs/" + digest + "?ns=[::1]:5000":      "blob [::1]:5000 a@" + digest,
		"/v2/a/referrers/" + digest + "?artifactType=x": "referrers  a@" + digest,
	} {
		c.asked = nil
		resp, body := ask(t, "GET", "http://"+address+path)
		if diff := cmp.Diff([]string{want}, c.asked); diff != "" || resp.StatusCode != 404 {
			t.Errorf("%s: %s %s\n%s", path, resp.Status, body, diff)
		}
	}
}

func TestMethods(t *testing.T) {
	c := newContent()
	address := serve(t, c)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
		resp, _ := ask(t, method, "http://"+address+"/v2/"+repository+"/manifests/x")
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow: %s", method, resp.Status, resp.Header.Get("Allow"))
		}
	}
	t.Run("a body", func(t *testing.T) { // that never comes
		got := raw(t, address, "GET /v2/"+repository+"/manifests/x HTTP/1.1\r\nHost: "+address+"\r\nContent-Length: 100\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("got %.80q", got)
		}
	})
	t.Run("a large head", func(t *testing.T) {
		got := raw(t, address, "GET /v2/ HTTP/1.1\r\nHost: "+address+"\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
		if got != "" && !strings.HasPrefix(got, "HTTP/1.1 431 ") {
			t.Errorf("got %.80q", got)
		}
	})
	if len(c.asked) > 0 {
		t.Errorf("asked: %v", c.asked)
	}
}

func TestAnswers(t *testing.T) {
	c := newContent()
	t.Cleanup(func() { // after that of serve
		if n := c.blob.used(); n != 0 {
			t.Errorf("%d blobs and readers were not closed", n)
		}
	})
	base := "http://" + serve(t, c) + "/v2/"
	digest := digestOf(c.body)
	head := func(r *http.Response) map[string]string {
		got := map[string]string{"status": fmt.Sprint(r.StatusCode)}
		for _, name := range []string{"Docker-Distribution-Api-Version", "Docker-Content-Digest", "Content-Type", "Content-Length", "Content-Encoding", "Accept-Ranges", "Content-Range"} {
			if v := r.Header.Get(name); v != "" {
				got[name] = v
			}
		}
		return got
	}
	wanted := func(status int, more ...string) map[string]string {
		want := map[string]string{"status": fmt.Sprint(status), "Docker-Distribution-Api-Version": "registry/2.0"}
		for i := 0; i < len(more); i += 2 {
			want[more[i]] = more[i+1]
		}
		return want
	}
	for _, test := range []struct {
		name, path string
		body       string
		want       map[string]string
	}{
		{"version", "", "{}", wanted(200, "Content-Type", "application/json", "Content-Length", "2")},
		{"manifest", repository + "/manifests/x", "{}", wanted(200, "Content-Type", c.manifest.MediaType, "Content-Length", "2", "Docker-Content-Digest", c.manifest.Digest)},
		{"manifest by digest", repository + "/manifests/" + c.manifest.Digest, "{}", wanted(200, "Content-Type", c.manifest.MediaType, "Content-Length", "2", "Docker-Content-Digest", c.manifest.Digest)},
		{"referrers", repository + "/referrers/" + c.manifest.Digest, `{"manifests":[]}`, wanted(200, "Content-Type", "application/vnd.oci.image.index.v1+json", "Content-Length", "16")},
		{"blob", repository + "/blobs/" + digest, string(c.body), wanted(200, "Content-Type", "application/octet-stream", "Content-Length", "10000", "Docker-Content-Digest", digest, "Accept-Ranges", "bytes")},
	} {
		t.Run(test.name, func(t *testing.T) {
			gzip := func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip, zstd") }
			resp, body := ask(t, "GET", base+test.path, gzip)
			if diff := cmp.Diff(test.want, head(resp)); diff != "" || string(body) != test.body {
				t.Errorf("GET: %d bytes, %s", len(body), diff)
			}
			resp, body = ask(t, "HEAD", base+test.path)
			if diff := cmp.Diff(test.want, head(resp)); diff != "" || len(body) > 0 {
				t.Errorf("HEAD: %d bytes, %s", len(body), diff)
			}
		})
	}
	t.Run("another manifest than asked for", func(t *testing.T) {
		if resp, _ := ask(t, "GET", base+repository+"/manifests/"+digest); resp.StatusCode != 502 {
			t.Errorf("got %s", resp.Status)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for err, status := range map[error]int{
			puller.Errorf(puller.ErrNotFound, "secret"): 404, puller.Errorf(puller.ErrDenied, "secret"): 403,
			puller.Errorf(puller.ErrRateLimited, "secret"): 429, errors.New("secret"): 502,
		} {
			c.err = err
			for _, path := range []string{"/manifests/x", "/blobs/" + digest, "/referrers/" + digest} {
				resp, body := ask(t, "GET", base+repository+path)
				var problem struct {
					Errors []struct{ Code, Message string }
				}
				if json.Unmarshal(body, &problem) != nil || len(problem.Errors) != 1 || problem.Errors[0].Code == "" || bytes.Contains(body, []byte("secret")) || resp.StatusCode != status {
					t.Errorf("%s: %v: %s, %s", path, err, resp.Status, body)
				}
			}
		}
		c.err = nil
	})
	t.Run("nothing told", func(t *testing.T) {
		_, other := ask(t, "GET", base+"not/here/blobs/"+digest)
		_, bad := ask(t, "GET", base+"not/here/blobs/x")
		if !bytes.Equal(other, bad) {
			t.Errorf("what is not here and what can't be differ: %s, %s", other, bad)
		}
	})
}

func TestRanges(t *testing.T) {
	c := newContent()
	url := "http://" + serve(t, c) + "/v2/" + repository + "/blobs/" + digestOf(c.body)
	for value, want := range map[string]struct {
		status   int
		from, to int
	}{
		"bytes=0-":            {206, 0, 10000},
		"bytes=0-0":           {206, 0, 1},
		"bytes=9999-":         {206, 9999, 10000},
		"bytes=17-4000":       {206, 17, 4001},
		"bytes=9000-99999999": {206, 9000, 10000},
		"bytes=1-" + huge:     {206, 1, 10000},
		"bytes=10000-":        {416, 0, 0},
		"bytes=" + huge + "-": {416, 0, 0},
		"bytes=-5":            {200, 0, 10000},
		"bytes=5-4":           {200, 0, 10000},
		"bytes=0-1,5-6":       {200, 0, 10000},
		"bytes=+1-":           {200, 0, 10000},
		"bytes=1":             {200, 0, 10000},
		"bytes=":              {200, 0, 10000},
		"bytes= 1-":           {200, 0, 10000},
		"octets=1-":           {200, 0, 10000},
		"Bytes=1-":            {200, 0, 10000},
	} {
		resp, body := ask(t, "GET", url, func(r *http.Request) { r.Header.Set("Range", value) })
		contentRange := ""
		switch want.status {
		case 206:
			contentRange = fmt.Sprintf("bytes %d-%d/10000", want.from, want.to-1)
		case 416:
			contentRange = "bytes */10000"
		}
		if resp.StatusCode != want.status || resp.Header.Get("Content-Range") != contentRange {
			t.Errorf("%s: %s, %q", value, resp.Status, resp.Header.Get("Content-Range"))
		}
		if want.status != 416 && (!bytes.Equal(body, c.body[want.from:want.to]) || resp.ContentLength != int64(want.to-want.from)) {
			t.Errorf("%s: %d bytes, Content-Length %d", value, len(body), resp.ContentLength)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"two headers": func(r *http.Request) { r.Header["Range"] = []string{"bytes=1-", "bytes=2-"} },
		"If-Range":    func(r *http.Request) { r.Header.Set("Range", "bytes=1-"); r.Header.Set("If-Range", `"x"`) },
		"HEAD":        func(r *http.Request) { r.Header.Set("Range", "bytes=1-"); r.Method = "HEAD" },
	} {
		if resp, _ := ask(t, "GET", url, change); resp.StatusCode != 200 || resp.ContentLength != 10000 {
			t.Errorf("%s: %s, %d bytes", name, resp.Status, resp.ContentLength)
		}
	}
	t.Run("no bytes", func(t *testing.T) {
		c.blob.size = 0
		if resp, _ := ask(t, "GET", url); resp.StatusCode != 200 || resp.Header.Get("Content-Length") != "0" {
			t.Errorf("%s, Content-Length %s", resp.Status, resp.Header.Get("Content-Length"))
		}
		if resp, _ := ask(t, "GET", url, func(r *http.Request) { r.Header.Set("Range", "bytes=0-") }); resp.StatusCode != 416 {
			t.Error(resp.Status)
		}
	})
}

const huge = "99999999999999999999999999"

func FuzzRange(f *testing.F) {
	for _, value := range []string{"bytes=0-", "bytes=5-9", "bytes=-1", "bytes=" + huge + "-" + huge, "bytes=0-1,2-3", ""} {
		f.Add(value, int64(10))
	}
	f.Fuzz(func(t *testing.T, value string, size int64) {
		if size < 0 {
			return
		}
		from, to, status := endpoint.ParseRange([]string{value}, size)
		switch {
		case status == 200 && from == 0 && to == size:
		case status == 416:
		case status == 206 && 0 <= from && from < to && to <= size:
		default:
			t.Errorf("%q of %d bytes: from %d to %d, status %d", value, size, from, to, status)
		}
	})
}

// The head comes before the first byte, and each byte when it is there.
func TestBlobArrives(t *testing.T) {
	arriving := func(t *testing.T) (in chan []byte, resp *http.Response, c *content) {
		c, in = newContent(), make(chan []byte)
		c.blob.read = func(ctx context.Context, from int64) io.Reader { return &waiting{ctx: ctx, in: in} }
		r, err := http.NewRequest("GET", "http://"+serve(t, c)+"/v2/"+repository+"/blobs/"+digestOf(c.body), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Range", "bytes=10-")
		resp, err = client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != 206 || resp.ContentLength != 9990 {
			t.Errorf("%s, %d bytes", resp.Status, resp.ContentLength)
		}
		return in, resp, c
	}
	t.Run("in pieces", func(t *testing.T) {
		in, resp, c := arriving(t)
		for at := 10; at < 10000; {
			end := min(10000, at+at)
			in <- c.body[at:end]
			got := make([]byte, end-at)
			if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, c.body[at:end]) {
				t.Fatalf("from %d to %d: %v", at, end, err)
			}
			at = end
		}
		if n, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d bytes and %v at the end", n, err)
		}
	})
	t.Run("and fails", func(t *testing.T) {
		in, resp, c := arriving(t)
		in <- c.body[10:5000]
		close(in)
		if got, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) > 4990 {
			t.Errorf("%d bytes and %v", len(got), err)
		}
	})
	t.Run("and fails before the first byte", func(t *testing.T) {
		in, resp, _ := arriving(t)
		close(in)
		if got, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 0 {
			t.Errorf("%d bytes and %v", len(got), err)
		}
	})
	t.Run("and is shorter than it says", func(t *testing.T) {
		c := newContent()
		c.blob.size++
		resp, err := client().Get("http://" + serve(t, c) + "/v2/" + repository + "/blobs/" + digestOf(c.body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err == nil || len(got) > len(c.body) {
			t.Errorf("%d bytes and %v", len(got), err)
		}
	})
	t.Run("and the engine leaves", func(t *testing.T) {
		c, ended := newContent(), make(chan struct{})
		c.blob.read = func(ctx context.Context, from int64) io.Reader {
			context.AfterFunc(ctx, func() { close(ended) })
			return &waiting{ctx: ctx}
		}
		resp, err := client().Get("http://" + serve(t, c) + "/v2/" + repository + "/blobs/" + digestOf(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		<-ended
	})
}

// The end of the context ends requests that wait, before Serve returns.
func TestServeEnds(t *testing.T) {
	c := newContent()
	began := make(chan struct{})
	c.blob.read = func(ctx context.Context, from int64) io.Reader {
		close(began)
		return &waiting{ctx: ctx}
	}
	s := endpoint.New(endpoint.Options{Listen: "127.0.0.1:0", Content: c, Log: quiet()})
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	resp, err := client().Get("http://" + l.Addr().String() + "/v2/" + repository + "/blobs/" + digestOf(c.body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-began
	cancel()
	if err := <-done; err != nil || c.blob.used() != 0 {
		t.Errorf("%v, and %d blobs and readers are open", err, c.blob.used())
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
	l, err = s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(context.Background(), l); err == nil {
		t.Error("a listener that is closed is served without an error")
	}
}

// pipes is a listener whose connections are in memory, so that time can be a test's own.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	at     string
}

type pipe struct {
	net.Conn
	remote string
}

func (p pipe) RemoteAddr() net.Addr { return address(p.remote) }

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func (p *pipes) Addr() net.Addr { return address(p.at) }
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) dial(remote string) net.Conn {
	near, far := net.Pipe()
	p.conns <- pipe{far, remote}
	return near
}

// inMemory runs a test with a server in memory and its own clock.
func inMemory(t *testing.T, name string, test func(t *testing.T, l *pipes, c *content)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), at: "127.0.0.1:7079"}
			c := newContent()
			serveOn(t, endpoint.New(endpoint.Options{Content: c, Log: quiet()}), l)
			test(t, l, c)
		})
	})
}

const (
	local = "127.0.0.1:40000"
	get   = "GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1:7079\r\n\r\n"
)

// wantCut checks when the server closes a connection that is not read from.
func wantCut(t *testing.T, conn net.Conn, after time.Duration) {
	t.Helper()
	began := time.Now()
	io.Copy(io.Discard, conn)
	if took := time.Since(began); took != after {
		t.Errorf("the connection was closed after %s, want %s", took, after)
	}
}

// Clients leave the port of http out of Host.
func TestHostOfPort80(t *testing.T) {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), at: "[::1]:80"}
	serveOn(t, endpoint.New(endpoint.Options{Content: newContent(), Log: quiet()}), l)
	for host, want := range map[string]int{"[::1]": 200, "[::1]:80": 200, "localhost": 200, "::1": 421, "127.0.0.1": 421} {
		conn := l.dial(local)
		io.WriteString(conn, "GET /v2/ HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v", host, resp, err)
		}
		conn.Close()
	}
}

func TestLimits(t *testing.T) {
	inMemory(t, "no head", func(t *testing.T, l *pipes, _ *content) {
		conn := l.dial(local)
		io.WriteString(conn, "GET /v2/ HTTP/1.1\r\n")
		wantCut(t, conn, 10*time.Second)
	})
	inMemory(t, "no next request", func(t *testing.T, l *pipes, _ *content) {
		conn := l.dial(local)
		io.WriteString(conn, get)
		wantCut(t, conn, 2*time.Minute)
	})
	inMemory(t, "an answer that is not read", func(t *testing.T, l *pipes, c *content) {
		conn := l.dial(local)
		io.WriteString(conn, "GET /v2/"+repository+"/blobs/"+digestOf(c.body)+" HTTP/1.1\r\nHost: 127.0.0.1:7079\r\n\r\n")
		in := bufio.NewReaderSize(conn, 16)
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
			t.Fatalf("%q, %v", line, err)
		}
		<-time.After(10*time.Minute - time.Second)
		if synctest.Wait(); c.blob.used() == 0 {
			t.Error("it was cut before 10 minutes")
		}
		<-time.After(2 * time.Second)
		if synctest.Wait(); c.blob.used() != 0 {
			t.Error("it was not cut after 10 minutes")
		}
		conn.Close()
	})
	inMemory(t, "a blob that takes an hour", func(t *testing.T, l *pipes, c *content) {
		in := make(chan []byte)
		c.blob.read = func(ctx context.Context, from int64) io.Reader { return &waiting{ctx: ctx, in: in} }
		go func() {
			for at := 0; at < len(c.body); at += 1000 {
				<-time.After(25 * time.Minute)
				in <- c.body[at : at+1000]
			}
		}()
		conn := l.dial(local)
		defer conn.Close()
		io.WriteString(conn, "GET /v2/"+repository+"/blobs/"+digestOf(c.body)+" HTTP/1.1\r\nHost: 127.0.0.1:7079\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, c.body) {
			t.Errorf("%d bytes and %v", len(got), err)
		}
		<-time.After(time.Minute)
		io.WriteString(conn, get) // the same connection
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		}
	})
	inMemory(t, "clients elsewhere", func(t *testing.T, l *pipes, _ *content) {
		for _, remote := range []string{"192.0.2.1:40000", "[2001:db8::1]:40000", "[::ffff:192.0.2.1]:40000", "pipe", ""} {
			wantCut(t, l.dial(remote), 0)
		}
		for _, remote := range []string{local, "[::1]:40000", "[::ffff:127.0.0.1]:40000"} {
			conn := l.dial(remote)
			io.WriteString(conn, get)
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
				t.Errorf("%s: %v", remote, err)
			}
			conn.Close()
		}
	})
	inMemory(t, "connections", func(t *testing.T, l *pipes, c *content) {
		var held []net.Conn
		for range endpoint.MostConnections {
			held = append(held, l.dial(local))
		}
		synctest.Wait()
		conn := l.dial(local) // an engine's
		io.WriteString(conn, get)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("beside connections that are only held: %v", err)
		}
		if n, err := held[0].Read(make([]byte, 1)); err == nil {
			t.Errorf("the oldest connection got %d bytes", n)
		}
		conn.Close()
		for _, h := range held {
			h.Close()
		}
		synctest.Wait()

		c.blob.read = func(ctx context.Context, from int64) io.Reader { return &waiting{ctx: ctx} }
		held = nil
		for range endpoint.MostConnections {
			busy := l.dial(local)
			io.WriteString(busy, "GET /v2/"+repository+"/blobs/"+digestOf(c.body)+" HTTP/1.1\r\nHost: 127.0.0.1:7079\r\n\r\n")
			if _, err := http.ReadResponse(bufio.NewReader(busy), nil); err != nil {
				t.Fatal(err)
			}
			held = append(held, busy)
		}
		wantCut(t, l.dial(local), 0)
		held[7].Close()
		synctest.Wait()
		conn = l.dial(local)
		defer conn.Close()
		io.WriteString(conn, get)
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
		for _, h := range held {
			h.Close()
		}
	})
}
