package blobs_test

import (
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs"
)

// nameOf returns the file name of the blob n of a size.
func nameOf(n uint64, size int) string {
	_, digest := bytesOf(n, size)
	return strings.Replace(digest, ":", "-", 1)
}

// wantKept checks which of the blobs below 10 a store holds whole.
func wantKept(t *testing.T, s *blobs.Store, size int, want ...uint64) {
	t.Helper()
	var got []uint64
	for n := range uint64(10) {
		if _, digest := bytesOf(n, size); s.Holds(digest, int64(size)) {
			got = append(got, n)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept blobs: %s", diff)
	}
}

func TestCap(t *testing.T) {
	const size = 100 << 10
	room := func(n int64) blobs.Options { return blobs.Options{Cap: n * (size + 4<<10)} }
	blob := func(n uint64) []byte { p, _ := bytesOf(n, size); return p }
	t.Run("the least recently used go", func(t *testing.T) {
		s := open(t, t.TempDir(), room(3))
		for n := range uint64(3) {
			keep(t, s, blob(n))
		}
		acquire(t, s, digestOf(blob(0)), size).Release()
		keep(t, s, blob(3))
		wantKept(t, s, size, 0, 2, 3)
		if got, want := s.Stats(), (blobs.Stats{Bytes: 3 * (size + 4<<10), Blobs: 3, Hits: 1, Misses: 4, Evicted: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
	t.Run("also after a restart", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, room(4))
		for n := range uint64(4) {
			keep(t, s, blob(n))
		}
		s.Close()
		for n, age := range []time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour, 4 * time.Hour} {
			at := time.Now().Add(-age)
			if err := os.Chtimes(filepath.Join(dir, nameOf(uint64(n), size)), at, at); err != nil {
				t.Fatal(err)
			}
		}
		s = open(t, dir, room(4))
		acquire(t, s, digestOf(blob(3)), size).Release()
		s.Close()
		wantKept(t, open(t, dir, room(2)), size, 0, 3)
		if got := list(t, dir); len(got) != 2 {
			t.Errorf("files: %v", got)
		}
	})
	t.Run("not those in use", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, room(2))
		first := acquire(t, s, digestOf(blob(0)), size)
		write(t, first, blob(0)[:1000], 0)
		keep(t, s, blob(1))
		second := acquire(t, s, digestOf(blob(2)), size)
		_, err := s.Acquire(digestOf(blob(3)), size)
		wantKind(t, err, puller.ErrNoSpace)
		if !strings.Contains(err.Error(), "mirror.cache") {
			t.Errorf("the error names no setting: %v", err)
		}
		wantKept(t, s, size, 1)
		write(t, first, blob(0), 0)
		wantAll(t, first, blob(0), 0)
		wantKept(t, s, size, 0, 1)
		write(t, second, blob(2)[:1000], 0)
		wantKept(t, s, size, 0)
		first.Release()
		second.Release() // with nothing that a restart would find
		wantKept(t, s, size, 0)
		if diff := cmp.Diff([]string{nameOf(0, size)}, list(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("not for what does not come", func(t *testing.T) {
		s := open(t, t.TempDir(), room(3))
		for n := range uint64(3) {
			keep(t, s, blob(n))
		}
		large, _ := bytesOf(5, 3*size)
		b := acquire(t, s, digestOf(large), len(large))
		if _, err := s.Acquire(digestOf(blob(6)), size); puller.KindOf(err) != puller.ErrNoSpace {
			t.Errorf("more is in use than there is room for: %v", err)
		}
		b.Release()
		wantKept(t, s, size, 0, 1, 2)
		keep(t, s, large)
		wantKept(t, s, size)
		if got := s.Stats(); got.Bytes != 3*size+4<<10 || got.Blobs != 1 || got.Evicted != 3 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("room grows with what arrives", func(t *testing.T) {
		const large = 48 << 20 // more than one step
		s := open(t, t.TempDir(), blobs.Options{Cap: large + 200<<10})
		keep(t, s, blob(0))
		p, digest := bytesOf(5, large)
		b := acquire(t, s, digest, large)
		defer b.Release()
		write(t, b, p[:1<<20], 0)
		wantKept(t, s, size, 0)
		write(t, b, p, 0)
		if got := s.Stats(); got.Bytes > large+200<<10 {
			t.Errorf("%+v", got)
		}
		keep(t, s, blob(1))
	})
	t.Run("not for what is too large", func(t *testing.T) {
		s := open(t, t.TempDir(), room(2))
		keep(t, s, blob(0))
		for _, tooLarge := range []int64{3 * size, 1 << 51, 1<<63 - 1} {
			_, err := s.Acquire(digestOf(blob(1)), tooLarge)
			wantKind(t, err, puller.ErrNoSpace)
		}
		wantKept(t, s, size, 0)
	})
	t.Run("parts count as they are when they are idle", func(t *testing.T) {
		s := open(t, t.TempDir(), room(2))
		for n := range uint64(6) {
			b := acquire(t, s, digestOf(blob(n)), size)
			write(t, b, blob(n)[:65<<10], 0)
			b.Release()
		}
		if got := s.Stats(); got.Blobs != 2 || got.Evicted != 4 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAcquire(t *testing.T) {
	p, digest := bytesOf(1, 1000)
	t.Run("digests", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, filepath.Join(dir, "blobs"), blobs.Options{})
		for _, bad := range []string{
			"", "sha256", "sha256:", "sha256:abc", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("g", 64),
			"sha384:" + strings.Repeat("a", 96), "md5:" + strings.Repeat("a", 32), "sha256:../" + strings.Repeat("a", 61),
			"sha256:" + strings.Repeat("a", 63) + "/", "../sha256:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("a", 64) + "\n",
			"sha256:" + strings.Repeat("a", 64) + ".part", "sha256:" + strings.Repeat("a", 1<<20), "sha512:" + strings.Repeat("a", 64),
		} {
			if _, err := s.Acquire(bad, 10); puller.KindOf(err) != puller.ErrInvalidRequest || len(err.Error()) > 300 {
				t.Errorf("%.100q: %v", bad, err)
			}
			if s.Holds(bad, 10) {
				t.Errorf("%.100q is held", bad)
			}
		}
		_, err := s.Acquire(digest, -1)
		wantKind(t, err, puller.ErrInvalidRequest)
		long := acquire(t, s, fmt.Sprintf("sha512:%x", sha512.Sum512(p)), len(p))
		defer long.Release()
		write(t, long, p, 0)
		wantAll(t, long, p, 0)
	})
	t.Run("no bytes", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, blobs.Options{})
		b := acquire(t, s, digestOf(nil), 0)
		if err := b.Verify(t.Context()); err != nil || !b.Whole() {
			t.Errorf("%v, whole %v", err, b.Whole())
		}
		wantAll(t, b, nil, 0)
		b.Release()
		_, err := s.Acquire(digest, 0)
		wantKind(t, err, puller.ErrCorrupt)
		if got := list(t, dir); len(got) != 0 {
			t.Errorf("files: %v", got)
		}
	})
	t.Run("another size", func(t *testing.T) {
		s := open(t, t.TempDir(), blobs.Options{})
		b := acquire(t, s, digest, len(p))
		_, err := s.Acquire(digest, 999)
		wantKind(t, err, puller.ErrCorrupt)
		write(t, b, p, 0)
		b.Release()
		_, err = s.Acquire(digest, 999)
		wantKind(t, err, puller.ErrCorrupt)
		if !s.Holds(digest, 1000) {
			t.Error("a good blob was removed because of a wrong size")
		}
	})
	t.Run("nothing written", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, blobs.Options{})
		acquire(t, s, digest, len(p)).Release()
		b := acquire(t, s, digest, len(p))
		write(t, b, p[:100], 0)
		b.Release()
		b.Release()
		if got := list(t, dir); len(got) != 0 || s.Stats().Blobs != 0 || s.Stats().Bytes != 0 {
			t.Errorf("files %v, %+v", got, s.Stats())
		}
	})
	t.Run("grants", func(t *testing.T) {
		s := open(t, t.TempDir(), blobs.Options{})
		b := acquire(t, s, digest, len(p))
		mine, yours, nobody := [32]byte{1}, [32]byte{2}, [32]byte{}
		b.Grant(mine)
		if !b.Granted(mine) || b.Granted(yours) || b.Granted(nobody) {
			t.Error("a grant is not that of one identity")
		}
		write(t, b, p, 0)
		b.Release()
		b = acquire(t, s, digest, len(p))
		defer b.Release()
		if !b.Granted(mine) || b.Granted(yours) {
			t.Error("a grant is lost, or given away, with the last use")
		}
		b.Grant(yours)
		b.Revoke(mine)
		if b.Granted(mine) || !b.Granted(yours) {
			t.Error("Revoke takes another grant than that of one identity")
		}
		b.Revoke(yours)
		b.Grant(nobody)
		if !b.Granted(yours) || !b.Granted(nobody) {
			t.Error("what may be had without credentials is refused")
		}
		for n := range 5000 {
			b.Grant([32]byte{3, byte(n), byte(n >> 8)})
		}
	})
}

func TestDirectory(t *testing.T) {
	p, digest := bytesOf(1, 200<<10)
	name := strings.Replace(digest, ":", "-", 1)
	mode := func(path string) os.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	t.Run("modes", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blobs")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, blobs.Options{})
		b := acquire(t, s, digest, len(p))
		defer b.Release()
		write(t, b, p[:1000], 0)
		for path, want := range map[string]os.FileMode{"": 0o700, name + ".part": 0o600, name + ".bitmap": 0o600} {
			if got := mode(filepath.Join(dir, path)); got != want {
				t.Errorf("%q has mode %o, want %o", path, got, want)
			}
		}
		write(t, b, p, 0)
		if got := mode(filepath.Join(dir, name)); got != 0o600 {
			t.Errorf("a whole blob has mode %o", got)
		}
	})
	t.Run("files of others", func(t *testing.T) {
		dir := t.TempDir()
		for _, foreign := range []string{"README", "sha256-abc", name + ".bak", "." + name, "sha384-" + strings.Repeat("a", 96)} {
			if err := os.WriteFile(filepath.Join(dir, foreign), make([]byte, 1<<20), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, nameOf(2, 10)), 0o755); err != nil {
			t.Fatal(err)
		}
		before := list(t, dir)
		s := open(t, dir, blobs.Options{Cap: 300 << 10})
		keep(t, s, p)
		if got := s.Stats(); got.Blobs != 1 || got.Evicted != 0 {
			t.Errorf("%+v", got)
		}
		other, otherDigest := bytesOf(2, 10)
		b := acquire(t, s, otherDigest, 10) // whose name a directory has
		if _, err := b.WriteAt(other, 0); err != nil {
			t.Error(err)
		}
		b.Release()
		keep(t, s, make([]byte, 250<<10))
		s.Close()
		after := map[string]bool{}
		for _, n := range list(t, dir) {
			after[n] = true
		}
		for _, n := range before {
			if !after[n] {
				t.Errorf("%s is gone", n)
			}
		}
	})
	t.Run("symbolic links", func(t *testing.T) {
		root := t.TempDir()
		secret, dir := filepath.Join(root, "secret"), filepath.Join(root, "blobs")
		if err := os.WriteFile(secret, p, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, blobs.Options{})
		for _, link := range []string{name, name + ".part", name + ".bitmap"} {
			if err := os.Symlink(secret, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if s.Close(); s.Open() != nil || s.Holds(digest, int64(len(p))) {
			t.Error("a symbolic link is taken as a blob")
		}
		b := acquire(t, s, digest, len(p))
		if _, err := b.WriteAt(make([]byte, 100), 0); err == nil {
			t.Error("a write went to a symbolic link")
		}
		b.Release()
		if got, err := os.ReadFile(secret); err != nil || string(got) != string(p) {
			t.Error("the file behind a symbolic link has changed")
		}
		link := filepath.Join(root, "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		if err := blobs.New(link, blobs.Options{Cap: 1 << 20, Log: quiet()}).Open(); err == nil {
			t.Error("a directory that is a symbolic link was opened")
		}
	})
	t.Run("a link or a pipe in the place of a whole blob", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, blobs.Options{})
		for _, replace := range []func(string) error{
			func(path string) error { return os.Symlink("/dev/zero", path) },
			func(path string) error { return syscall.Mkfifo(path, 0o600) },
		} {
			keep(t, s, p)
			path := filepath.Join(dir, name)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			if b, err := s.Acquire(digest, int64(len(p))); err == nil {
				t.Errorf("it is taken as a blob with %d bytes", b.Have())
				b.Release()
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("what is no directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "blobs")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := blobs.New(path, blobs.Options{Log: quiet()}).Open(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	})
}
