package blobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BLOBS_WRITE_TO"); dir != "" {
		writeUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// bytesOf returns bytes that look random, and their digest. Another n gives others.
func bytesOf(n uint64, size int) ([]byte, string) {
	var seed [32]byte
	seed[0], seed[1] = byte(n), byte(n>>8)
	p := make([]byte, size)
	rand.NewChaCha8(seed).Read(p)
	return p, digestOf(p)
}

func digestOf(p []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(p)) }

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// open opens a store until the test ends.
func open(t testing.TB, dir string, o blobs.Options) *blobs.Store {
	t.Helper()
	if o.Cap == 0 {
		o.Cap = 1 << 30
	}
	if o.Log == nil {
		o.Log = quiet()
	}
	s := blobs.New(dir, o)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func acquire(t testing.TB, s *blobs.Store, digest string, size int) *blobs.Blob {
	t.Helper()
	b, err := s.Acquire(digest, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, b *blobs.Blob, p []byte, off int) {
	t.Helper()
	if n, err := b.WriteAt(p, int64(off)); n != len(p) || err != nil {
		t.Fatalf("WriteAt(%d bytes, %d) = %d, %v", len(p), off, n, err)
	}
}

// keep has a store keep a whole blob.
func keep(t testing.TB, s *blobs.Store, p []byte) {
	t.Helper()
	b := acquire(t, s, digestOf(p), len(p))
	defer b.Release()
	write(t, b, p, 0)
	if !b.Whole() {
		t.Fatal("all bytes were written, and the blob is not whole")
	}
}

// wantAll checks what a new reader gives from an offset on.
func wantAll(t testing.TB, b *blobs.Blob, p []byte, from int) {
	t.Helper()
	r := b.NewReader(context.Background(), int64(from))
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, p[from:]) {
		t.Errorf("a reader from %d gave %d bytes (right: %v) and %v", from, len(got), bytes.Equal(got, p[from:]), err)
	}
}

func wantKind(t testing.TB, err error, kind puller.ErrorKind) {
	t.Helper()
	if puller.KindOf(err) != kind {
		t.Errorf("got %v (%s), want %s", err, puller.KindOf(err), kind)
	}
}
