package blobs_test

import (
	"context"
	"io"
	"testing"

	"github.com/towline/towline/puller/mirror/blobs"
)

const benchSize = 256 << 20

// A blob arrives in pieces of 32 KiB at 16 places, and a reader reads it meanwhile.
func BenchmarkArrive(b *testing.B) {
	p, digest := bytesOf(1, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		s := open(b, b.TempDir(), blobs.Options{})
		blob := acquire(b, s, digest, benchSize)
		done := make(chan error)
		go func() {
			r := blob.NewReader(context.Background(), 0)
			defer r.Close()
			_, err := io.Copy(io.Discard, r)
			done <- err
		}()
		const chunk, piece = benchSize / 16, 32 << 10
		for at := 0; at < chunk; at += piece {
			for n := range 16 {
				write(b, blob, p[n*chunk+at:n*chunk+at+piece], n*chunk+at)
			}
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		blob.Release()
		s.Close()
	}
}

// A whole blob of an earlier start is checked before its first byte is given.
func BenchmarkCheck(b *testing.B) {
	p, digest := bytesOf(1, benchSize)
	dir := b.TempDir()
	s := open(b, dir, blobs.Options{})
	blob := acquire(b, s, digest, benchSize)
	write(b, blob, p, 0)
	blob.Release()
	s.Close()
	b.SetBytes(benchSize)
	for b.Loop() {
		s := open(b, dir, blobs.Options{})
		blob := acquire(b, s, digest, benchSize)
		if err := blob.Verify(context.Background()); err != nil {
			b.Fatal(err)
		}
		blob.Release()
		s.Close()
	}
}
