package endpoint_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/puller/mirror/blobs"
)

// A whole blob of the cache over loopback, and the same file from net/http.
func BenchmarkBlob(b *testing.B) {
	const size = 256 << 20
	p := make([]byte, size)
	dir := b.TempDir()
	store := blobs.New(dir, blobs.Options{Cap: 1 << 30, Log: quiet()})
	if err := store.Open(); err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	kept, err := store.Acquire(digestOf(p), size)
	if err != nil {
		b.Fatal(err)
	}
	defer kept.Release()
	if _, err := kept.WriteAt(p, 0); err != nil {
		b.Fatal(err)
	}
	c := newContent()
	c.blob = &blob{size: size, read: func(ctx context.Context, from int64) io.Reader { return kept.NewReader(ctx, from) }}
	fetch := func(b *testing.B, url string) {
		b.SetBytes(size)
		buf := make([]byte, 1<<20)
		for b.Loop() {
			resp, err := http.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf)
			resp.Body.Close()
			if n != size || err != nil {
				b.Fatal(n, err)
			}
		}
	}
	b.Run("endpoint", func(b *testing.B) {
		fetch(b, "http://"+serve(b, c)+"/v2/"+repository+"/blobs/"+kept.Digest())
	})
	b.Run("file server", func(b *testing.B) {
		files, err := filepath.Glob(filepath.Join(dir, "sha256-*"))
		if err != nil || len(files) != 1 {
			b.Fatal(files, err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(files[0])
			if err == nil {
				defer f.Close()
				io.Copy(w, f)
			}
		}))
		defer server.Close()
		fetch(b, server.URL)
	})
}
