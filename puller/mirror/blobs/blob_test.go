package blobs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

// Whatever the order and the overlaps of writes, each reader gets the right bytes.
func TestBlobUnderLoad(t *testing.T) {
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		size := 1 + rnd.IntN(2<<20)
		p, digest := bytesOf(seed, size)
		s := open(t, t.TempDir(), blobs.Options{Block: 4 << 10})
		b := acquire(t, s, digest, size)

		var all sync.WaitGroup
		for range 4 {
			from := rnd.IntN(size + 1)
			all.Go(func() { wantAll(t, b, p, from) })
		}
		chunks := make(chan blobs.Range, 10_000)
		for at := 0; at < size; {
			end := min(size, at+1+rnd.IntN(100<<10))
			from := max(0, at-rnd.IntN(20<<10))
			chunks <- blobs.Range{From: int64(from), To: int64(end)}
			if rnd.IntN(3) == 0 { // a race
				chunks <- blobs.Range{From: int64(from), To: int64(end)}
			}
			at = end
		}
		close(chunks)
		var shuffled []blobs.Range
		for c := range chunks {
			shuffled = append(shuffled, c)
		}
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		var mu sync.Mutex
		for range 6 {
			all.Go(func() {
				for {
					mu.Lock()
					if len(shuffled) == 0 {
						mu.Unlock()
						return
					}
					c := shuffled[0]
					shuffled = shuffled[1:]
					mu.Unlock()
					write(t, b, p[c.From:c.To], int(c.From))
				}
			})
		}
		all.Wait()
		if !b.Whole() || b.Have() != int64(size) || b.Missing() != nil || b.Wanted() != -1 {
			t.Errorf("seed %d: whole %v, %d of %d bytes, missing %v, wanted %d", seed, b.Whole(), b.Have(), size, b.Missing(), b.Wanted())
		}
		b.Release()
		b = acquire(t, s, digest, size)
		wantAll(t, b, p, 0)
		b.Release()
	}
}

// A byte that is there is never changed: what was hashed is what readers get.
func TestBlobKeepsFirstBytes(t *testing.T) {
	p, digest := bytesOf(1, 300<<10)
	b := acquire(t, open(t, t.TempDir(), blobs.Options{}), digest, len(p))
	defer b.Release()
	write(t, b, p[100<<10:200<<10], 100<<10)
	write(t, b, make([]byte, 50<<10), 120<<10)
	write(t, b, p, 0)
	wantAll(t, b, p, 0)
	write(t, b, make([]byte, len(p)), 0)
	wantAll(t, b, p, 0)
}

func TestBlobMissing(t *testing.T) {
	p, digest := bytesOf(1, 1000)
	b := acquire(t, open(t, t.TempDir(), blobs.Options{}), digest, len(p))
	defer b.Release()
	write(t, b, p[500:600], 500)
	write(t, b, p[100:200], 100)
	write(t, b, p[200:300], 200)
	write(t, b, nil, 700)
	want := []blobs.Range{{From: 0, To: 100}, {From: 300, To: 500}, {From: 600, To: 1000}}
	if diff := cmp.Diff(want, b.Missing()); diff != "" {
		t.Error(diff)
	}
	if b.Have() != 300 || b.Whole() || b.Size() != 1000 || b.Digest() != digest {
		t.Errorf("%d bytes, whole %v, size %d, %s", b.Have(), b.Whole(), b.Size(), b.Digest())
	}
	wantKind(t, b.Verify(t.Context()), puller.ErrTruncated)
	for _, off := range []int64{-1, 951, 1 << 62} {
		if _, err := b.WriteAt(p[:50], off); err == nil {
			t.Errorf("50 bytes at %d of 1000 were taken", off)
		}
	}
}

// TestReader runs with a clock of its own, so that "waits" can be said.
func TestReader(t *testing.T) {
	const size = 1 << 20
	p, digest := bytesOf(1, size)
	run := func(name string, test func(*testing.T, *blobs.Blob)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := blobs.New(t.TempDir(), blobs.Options{Cap: 1 << 30, Log: quiet()})
				if err := s.Open(); err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				b := acquire(t, s, digest, size)
				defer b.Release()
				test(t, b)
			})
		})
	}
	run("waits", func(t *testing.T, b *blobs.Blob) {
		r := read(b.NewReader(t.Context(), 500_000))
		defer r.Close()
		if n, got := r.got(t), b.Wanted(); n != 0 || got != 500_000 {
			t.Errorf("%d is wanted", got)
		}
		write(t, b, p[600_000:700_000], 600_000)
		if n, got := r.got(t), b.Wanted(); n != 0 || got != 500_000 {
			t.Errorf("%d is wanted", got)
		}
		write(t, b, p[499_000:600_000], 499_000)
		if got, wanted := r.got(t), b.Wanted(); got != 200_000 || wanted != 700_000 {
			t.Errorf("%d bytes, %d is wanted", got, wanted)
		}
		lower := read(b.NewReader(t.Context(), 10))
		defer lower.Close()
		if lower.got(t); b.Wanted() != 10 {
			t.Errorf("%d is wanted", b.Wanted())
		}
		write(t, b, p[700_000:], 700_000)
		write(t, b, p[:499_000-1], 0)
		if got, wanted := r.got(t), b.Wanted(); got != size-500_000-blobs.Held || wanted != 499_000-1 {
			t.Errorf("%d bytes before the end, %d is wanted", got, wanted)
		}
		write(t, b, p[499_000-1:499_000], 499_000-1)
		r.wantEnd(t, p[500_000:], nil)
		lower.wantEnd(t, p[10:], nil)
	})
	run("canceled", func(t *testing.T, b *blobs.Blob) {
		left := errors.New("the engine has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		write(t, b, p[:1000], 0)
		r := read(b.NewReader(ctx, 0))
		defer r.Close()
		r.got(t)
		cancel(left)
		r.wantEnd(t, p[:1000], left)
		if b.Wanted() != -1 {
			t.Errorf("%d is wanted", b.Wanted())
		}
	})
	run("closed", func(t *testing.T, b *blobs.Blob) {
		r := read(b.NewReader(t.Context(), 0))
		r.got(t)
		r.Close()
		if r.got(t); r.err == nil {
			t.Error("a reader that was closed waits on")
		}
	})
	run("acquired again", func(t *testing.T, b *blobs.Blob) {
		write(t, b, p[:1000], 0)
		acquired := acquire(t, storeOf(b), digest, size)
		defer acquired.Release()
		if acquired != b {
			t.Error("two users have two blobs")
		}
		r := read(b.NewReader(t.Context(), 0))
		defer r.Close()
		r.got(t)
		write(t, acquired, p, 0)
		r.wantEnd(t, p, nil)
	})
	run("wrong digest", func(t *testing.T, b *blobs.Blob) {
		wrong := bytes.Clone(p)
		wrong[777_777]++
		begun, waits := read(b.NewReader(t.Context(), 0)), read(b.NewReader(t.Context(), 900_000))
		defer begun.Close()
		defer waits.Close()
		write(t, b, wrong[:800_000], 0)
		if begun.got(t) != 800_000 {
			t.Errorf("got %d bytes", begun.got(t))
		}
		_, err := b.WriteAt(wrong[800_000:], 800_000)
		wantKind(t, err, puller.ErrCorrupt)
		begun.got(t)
		wantKind(t, begun.err, puller.ErrCorrupt)
		if waits.got(t) > size-900_000-blobs.Held || b.Have() != 0 || b.Whole() {
			t.Errorf("a reader has %d bytes; %d bytes are there", waits.got(t), b.Have())
		}
		write(t, b, p, 0)
		wantAll(t, b, p, 0)
	})
	run("reset", func(t *testing.T, b *blobs.Blob) {
		write(t, b, p[:500_000], 0)
		begun, waits := read(b.NewReader(t.Context(), 0)), read(b.NewReader(t.Context(), 600_000))
		defer begun.Close()
		defer waits.Close()
		begun.got(t)
		if err := b.Reset(); err != nil || b.Have() != 0 {
			t.Errorf("%v, and %d bytes are there", err, b.Have())
		}
		begun.got(t)
		wantKind(t, begun.err, puller.ErrCorrupt)
		write(t, b, p, 0)
		waits.wantEnd(t, p[600_000:], nil)
		if err := b.Reset(); err != nil || b.Whole() || b.Have() != 0 {
			t.Errorf("%v, whole %v, %d bytes", err, b.Whole(), b.Have())
		}
		write(t, b, p, 0)
		wantAll(t, b, p, 0)
	})
	run("from the end", func(t *testing.T, b *blobs.Blob) {
		r := read(b.NewReader(t.Context(), size))
		defer r.Close()
		if r.got(t); r.err != nil {
			t.Errorf("a reader at the end got %v before the digest was checked", r.err)
		}
		write(t, b, p, 0)
		r.wantEnd(t, nil, nil)
		for _, from := range []int64{-1, size + 1} {
			r := b.NewReader(t.Context(), from)
			_, err := r.Read(make([]byte, 1))
			wantKind(t, err, puller.ErrInvalidRequest)
			r.Close()
		}
	})
	run("keeps the blob in use", func(t *testing.T, b *blobs.Blob) {
		write(t, b, p[:1000], 0)
		r := b.NewReader(t.Context(), 0)
		b.Release()
		if n, err := io.ReadFull(r, make([]byte, 1000)); n != 1000 {
			t.Errorf("after Release of the blob, a reader got %d bytes and %v", n, err)
		}
		r.Close()
		r.Close()
		r = b.NewReader(t.Context(), 0)
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("a blob that is not in use has a reader")
		}
		r.Close()
	})
	run("the store closes", func(t *testing.T, b *blobs.Blob) {
		write(t, b, p[:1000], 0)
		r := read(b.NewReader(t.Context(), 0))
		r.got(t)
		storeOf(b).Close()
		if r.got(t); r.err == nil {
			t.Error("a reader waits on")
		}
		if _, err := b.WriteAt(p, 0); err == nil {
			t.Error("a write was taken")
		}
		if _, err := storeOf(b).Acquire(digest, size); err == nil {
			t.Error("a blob was acquired")
		}
		r.Close()
	})
}

func storeOf(b *blobs.Blob) *blobs.Store { return blobs.StoreOf(b) }

// reading is a reader whose bytes are read as they come.
type reading struct {
	io.Closer
	mu   sync.Mutex
	all  []byte
	err  error // of the end
	ends bool
}

func read(r io.ReadCloser) *reading {
	g := &reading{Closer: r}
	go func() {
		buf := make([]byte, 10_000)
		for {
			n, err := r.Read(buf)
			g.mu.Lock()
			g.all = append(g.all, buf[:n]...)
			g.err, g.ends = err, err != nil
			g.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return g
}

// got returns how many bytes came when nothing happens any more.
func (g *reading) got(t *testing.T) int {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all)
}

func (g *reading) wantEnd(t *testing.T, p []byte, end error) {
	t.Helper()
	g.got(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	if end == nil {
		end = io.EOF
	}
	if !g.ends || !errors.Is(g.err, end) || !bytes.Equal(g.all, p) {
		t.Errorf("got %d bytes, want %d (right: %v); ended %v with %v, want %v", len(g.all), len(p), bytes.Equal(g.all, p), g.ends, g.err, end)
	}
}
