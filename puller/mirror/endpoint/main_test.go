package endpoint_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/endpoint"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repository = "3f2a/c0ffee"

func digestOf(p []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(p)) }

// content is a Content of one repository. What is asked for is noted.
type content struct {
	manifest puller.RawManifest
	body     []byte
	blob     *blob
	err      error

	mu    sync.Mutex
	asked []string
}

func newContent() *content {
	body := bytes.Repeat([]byte("0123456789"), 1000)
	return &content{
		manifest: puller.RawManifest{Body: []byte("{}"), MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: digestOf([]byte("{}"))},
		body:     body,
		blob:     &blob{size: int64(len(body)), read: func(_ context.Context, from int64) io.Reader { return bytes.NewReader(body[from:]) }},
	}
}

func (c *content) find(what, ns, name, reference string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, fmt.Sprintf("%s %s %s@%s", what, ns, name, reference))
	switch {
	case c.err != nil:
		return c.err
	case name != repository:
		return puller.Errorf(puller.ErrNotFound, "there is no %s", name)
	}
	return nil
}

func (c *content) Manifest(_ context.Context, ns, name, reference string) (puller.RawManifest, error) {
	return c.manifest, c.find("manifest", ns, name, reference)
}

func (c *content) Referrers(_ context.Context, ns, name, digest string) (puller.RawManifest, error) {
	return puller.RawManifest{Body: []byte(`{"manifests":[]}`), MediaType: "application/vnd.oci.image.index.v1+json"}, c.find("referrers", ns, name, digest)
}

func (c *content) Blob(_ context.Context, ns, name, digest string) (endpoint.Blob, error) {
	if err := c.find("blob", ns, name, digest); err != nil {
		return nil, err
	}
	c.blob.open()
	return c.blob, nil
}

// blob is a Blob whose bytes a function reads.
type blob struct {
	size int64
	read func(ctx context.Context, from int64) io.Reader
	mu   sync.Mutex
	uses int
}

func (b *blob) open()       { b.count(1) }
func (b *blob) Close()      { b.count(-1) }
func (b *blob) Size() int64 { return b.size }

func (b *blob) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uses += n
}

// used returns how many uses and readers are open.
func (b *blob) used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.uses
}

func (b *blob) NewReader(ctx context.Context, from int64) io.ReadCloser {
	b.count(1)
	return &reader{b.read(ctx, from), b}
}

type reader struct {
	io.Reader
	b *blob
}

func (r *reader) Close() error { r.b.count(-1); return nil }

// waiting is a reader that gives what a channel gives, until the context ends.
type waiting struct {
	ctx context.Context
	in  <-chan []byte
	at  []byte
}

var errFailed = errors.New("the registry has gone")

func (w *waiting) Read(p []byte) (int, error) {
	if len(w.at) == 0 {
		var ok bool
		select {
		case w.at, ok = <-w.in:
			if !ok {
				return 0, errFailed
			}
		case <-w.ctx.Done():
			return 0, w.ctx.Err()
		}
	}
	n := copy(p, w.at)
	w.at = w.at[n:]
	return n, nil
}

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// serve serves a content until the test ends, at the address that it returns.
func serve(t testing.TB, c endpoint.Content) (address string) {
	t.Helper()
	s := endpoint.New(endpoint.Options{Listen: "127.0.0.1:0", Content: c, Log: quiet()})
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return l.Addr().String()
}

func serveOn(t testing.TB, s *endpoint.Server, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// client is an HTTP client without connections that are kept.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
}

// ask sends a request, and returns the answer with its body.
func ask(t testing.TB, method, url string, change ...func(*http.Request)) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	resp, err := client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}
