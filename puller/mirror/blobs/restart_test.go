package blobs_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

const (
	killedSize  = 32 << 20
	killedParts = 4
)

// writeUntilKilled writes half of a blob with some writers, says how many bytes that
// were, and waits.
func writeUntilKilled(dir string) {
	p, digest := bytesOf(7, killedSize)
	s := blobs.New(dir, blobs.Options{Cap: 1 << 30, Log: quiet()})
	if err := s.Open(); err != nil {
		panic(err)
	}
	b, err := s.Acquire(digest, killedSize)
	if err != nil {
		panic(err)
	}
	var all sync.WaitGroup
	var written atomic.Int64
	for i := range killedParts {
		all.Go(func() {
			const piece = 30_000
			from := i * killedSize / killedParts
			for at := from; at < from+killedSize/killedParts/2; at += piece {
				n, err := b.WriteAt(p[at:at+piece], int64(at))
				if err != nil {
					panic(err)
				}
				written.Add(int64(n))
			}
		})
	}
	all.Wait()
	fmt.Println(written.Load())
	select {}
}

// A process that is killed loses at most 2 % of what it wrote.
func TestKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BLOBS_WRITE_TO="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	cmd.Process.Signal(syscall.SIGKILL)
	cmd.Wait()
	var written int64
	if _, err := fmt.Sscan(line, &written); err != nil || readErr != nil {
		t.Fatalf("%q: %v, %v", line, err, readErr)
	}

	p, digest := bytesOf(7, killedSize)
	s := open(t, dir, blobs.Options{})
	if got := s.Stats(); got.Blobs != 1 || s.Holds(digest, killedSize) {
		t.Errorf("after the kill, there are %+v", got)
	}
	b := acquire(t, s, digest, killedSize)
	defer b.Release()
	lost := written - b.Have()
	t.Logf("%d of %d bytes are lost (%.2f %%)", lost, written, 100*float64(lost)/float64(written))
	if lost > written/50 {
		t.Errorf("%d of %d bytes are lost", lost, written)
	}
	for _, r := range b.Missing() {
		write(t, b, p[r.From:r.To], int(r.From))
	}
	wantAll(t, b, p, 0)
}

// stored has a store keep a blob, whole or without its last bytes, and closes it.
func stored(t *testing.T, dir string, p []byte, length int) {
	t.Helper()
	s := open(t, dir, blobs.Options{Block: 4 << 10})
	b := acquire(t, s, digestOf(p), len(p))
	write(t, b, p[:length], 0)
	b.Release()
	s.Close()
}

func damage(t *testing.T, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestRestart opens a directory again after something happened to it.
func TestRestart(t *testing.T) {
	const size, part = 1 << 20, 700_000
	p, digest := bytesOf(1, size)
	name := strings.Replace(digest, ":", "-", 1)
	t.Run("whole", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, size)
		s := open(t, dir, blobs.Options{})
		if !s.Holds(digest, size) || s.Holds(digest, size+1) {
			t.Error("the whole blob is not held")
		}
		b := acquire(t, s, digest, size)
		defer b.Release()
		if missing := b.Missing(); missing != nil {
			t.Errorf("missing: %v", missing)
		}
		wantAll(t, b, p, 10)
		if err := b.Verify(t.Context()); err != nil || !b.Whole() {
			t.Errorf("%v, whole %v", err, b.Whole())
		}
		if got := s.Stats(); got.Hits != 1 || got.Misses != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("whole, damaged", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, size)
		damage(t, filepath.Join(dir, name), flip(size-1))
		s := open(t, dir, blobs.Options{})
		b := acquire(t, s, digest, size)
		defer b.Release()
		r := b.NewReader(t.Context(), 0)
		defer r.Close()
		if err := b.Verify(t.Context()); puller.KindOf(err) != puller.ErrCorrupt && puller.KindOf(err) != puller.ErrTruncated {
			t.Errorf("got %v", err)
		}
		if b.Whole() || b.Have() != 0 || len(list(t, dir)) != 0 || s.Holds(digest, size) {
			t.Errorf("whole %v, %d bytes, files %v", b.Whole(), b.Have(), list(t, dir))
		}
		write(t, b, p, 0)
		got := make([]byte, size)
		if _, err := r.Read(got); err != nil || got[0] != p[0] { // it had nothing of what was damaged
			t.Error(err)
		}
		wantAll(t, b, p, 0)
	})
	for what, change := range map[string]func([]byte) []byte{
		"shorter": func(b []byte) []byte { return b[:size-1] },
		"longer":  func(b []byte) []byte { return append(b, 1) },
		"empty":   func(b []byte) []byte { return nil },
	} {
		t.Run("whole, "+what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "blobs")
			stored(t, dir, p, size)
			damage(t, filepath.Join(dir, name), change)
			s := open(t, dir, blobs.Options{})
			b := acquire(t, s, digest, size)
			defer b.Release()
			if s.Holds(digest, size) || b.Have() != 0 {
				t.Errorf("held %v, %d bytes", s.Holds(digest, size), b.Have())
			}
			write(t, b, p, 0)
			wantAll(t, b, p, 0)
		})
	}
	t.Run("part", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, part)
		b := acquire(t, open(t, dir, blobs.Options{}), digest, size)
		defer b.Release()
		want := []blobs.Range{{From: part / 4096 * 4096, To: size}}
		if diff := cmp.Diff(want, b.Missing()); diff != "" {
			t.Error(diff)
		}
		write(t, b, p[part/4096*4096:], part/4096*4096)
		wantAll(t, b, p, 0)
		if diff := cmp.Diff([]string{name}, list(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("part, damaged", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, part)
		damage(t, filepath.Join(dir, name+".part"), flip(100))
		b := acquire(t, open(t, dir, blobs.Options{}), digest, size)
		defer b.Release()
		_, err := b.WriteAt(p[part-5000:], part-5000)
		wantKind(t, err, puller.ErrCorrupt)
		write(t, b, p, 0)
		wantAll(t, b, p, 0)
	})
	t.Run("part, all bytes", func(t *testing.T) { // killed before it was renamed
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, part)
		damage(t, filepath.Join(dir, name+".part"), func([]byte) []byte { return p })
		damage(t, filepath.Join(dir, name+".bitmap"), func(b []byte) []byte {
			for i := 28; i < len(b); i++ {
				b[i] = 0xff
			}
			return b
		})
		b := acquire(t, open(t, dir, blobs.Options{}), digest, size)
		defer b.Release()
		if err := b.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		wantAll(t, b, p, 0)
	})
	t.Run("part, shorter than its bitmap says", func(t *testing.T) { // a power cut
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, part)
		damage(t, filepath.Join(dir, name+".part"), func(b []byte) []byte { return b[:50_000] })
		b := acquire(t, open(t, dir, blobs.Options{}), digest, size)
		defer b.Release()
		if b.Have() != 50_000/4096*4096 {
			t.Errorf("%d bytes are there", b.Have())
		}
		write(t, b, p, 0)
		wantAll(t, b, p, 0)
	})
	for what, change := range map[string]func(dir string) error{
		"no bitmap":     func(dir string) error { return os.Remove(filepath.Join(dir, name+".bitmap")) },
		"no bytes":      func(dir string) error { return os.Remove(filepath.Join(dir, name+".part")) },
		"short bitmap":  func(dir string) error { return os.Truncate(filepath.Join(dir, name+".bitmap"), 29) },
		"empty bitmap":  func(dir string) error { return os.Truncate(filepath.Join(dir, name+".bitmap"), 0) },
		"part is empty": func(dir string) error { return os.Truncate(filepath.Join(dir, name+".part"), 0) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "blobs")
			stored(t, dir, p, part)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, blobs.Options{})
			if got := list(t, dir); len(got) != 0 || s.Stats().Blobs != 0 {
				t.Errorf("left: %v", got)
			}
		})
	}
	t.Run("part of another size", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, part)
		b := acquire(t, open(t, dir, blobs.Options{}), digest, size+1)
		defer b.Release()
		if b.Have() != 0 || len(list(t, dir)) != 0 {
			t.Errorf("%d bytes are there, files %v", b.Have(), list(t, dir))
		}
	})
	t.Run("part beside the whole", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		stored(t, dir, p, part)
		if err := os.WriteFile(filepath.Join(dir, name), p, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, blobs.Options{})
		b := acquire(t, s, digest, size)
		defer b.Release()
		wantAll(t, b, p, 0)
	})
	t.Run("removed while it is open", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		s := open(t, dir, blobs.Options{})
		keep(t, s, p)
		os.Remove(filepath.Join(dir, name))
		b := acquire(t, s, digest, size)
		defer b.Release()
		if b.Whole() || b.Have() != 0 {
			t.Errorf("whole %v, %d bytes", b.Whole(), b.Have())
		}
		write(t, b, p, 0)
		wantAll(t, b, p, 0)
	})
}
