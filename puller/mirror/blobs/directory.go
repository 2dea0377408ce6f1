package blobs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	_ "crypto/sha256" // digests name blobs by these two
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller/mirror/blobs/ranges"
	"golang.org/x/sys/unix"
)

// What the names of files end with.
const (
	partSuffix   = ".part"
	bitmapSuffix = ".bitmap"
)

// parseDigest returns a digest that can be a file name.
func parseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if len(s) > 256 || d.Validate() != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return "", errors.New("it is no sha256 or sha512 digest")
	}
	return d, nil
}

// fileName is the name of a whole blob.
func fileName(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

// parseName returns the blob that a file belongs to, and what its name ends with. ok
// is false for a file that is not the package's.
func parseName(name string) (d digest.Digest, suffix string, ok bool) {
	stem := name
	for _, s := range []string{partSuffix, bitmapSuffix} {
		if rest, found := strings.CutSuffix(name, s); found {
			stem, suffix = rest, s
		}
	}
	algorithm, hex, _ := strings.Cut(stem, "-")
	d, err := parseDigest(algorithm + ":" + hex)
	return d, suffix, err == nil
}

// makeDir makes the directory with mode 0700.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory; remove it, or set state_dir", dir)
	case info.Mode().Perm() != 0o700:
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// kept is a blob that a directory holds.
type kept struct {
	digest digest.Digest
	size   int64 // of the blob
	length int64 // of the bytes that are there
	whole  bool
	used   time.Time
}

// scan returns the blobs of a directory, least recently used first, and removes files
// that are left over from a process that was killed.
func scan(dir string) ([]kept, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []kept
	bitmaps := map[digest.Digest]bool{}
	parts := map[digest.Digest]fs.FileInfo{}
	whole := map[digest.Digest]bool{}
	for _, e := range entries {
		d, suffix, ok := parseName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil { // it was removed just now
			continue
		}
		switch suffix {
		case partSuffix:
			parts[d] = info
		case bitmapSuffix:
			bitmaps[d] = true
		default:
			whole[d] = true
			all = append(all, kept{d, info.Size(), info.Size(), true, info.ModTime()})
		}
	}
	for d, info := range parts {
		if whole[d] || !bitmaps[d] {
			if err := removeFiles(dir, d); err != nil {
				return nil, err
			}
			continue
		}
		m, err := openBitmap(dir, d)
		if err == nil {
			m.Close()
			if have := m.Ranges(info.Size()); have != nil {
				all = append(all, kept{d, m.Size(), have.Total(), false, info.ModTime()})
				continue
			}
		}
		if err := removeFiles(dir, d); err != nil {
			return nil, err
		}
	}
	for d := range bitmaps {
		if parts[d] == nil {
			if err := removeFiles(dir, d); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(string(a.digest), string(b.digest)))
	})
	return all, nil
}

// openFile opens a regular file, and follows no symbolic link.
func openFile(dir, name string, flag int) (*os.File, error) {
	// With O_NONBLOCK, a pipe of that name holds nothing up.
	f, err := os.OpenFile(filepath.Join(dir, name), flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file; remove it", f.Name())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openBitmap opens the bitmap of a part.
func openBitmap(dir string, d digest.Digest) (*ranges.Bitmap, error) {
	f, err := openFile(dir, fileName(d)+bitmapSuffix, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	m, err := ranges.OpenBitmap(f)
	if err != nil {
		f.Close()
	}
	return m, err
}

// removeFiles removes the part of a blob.
func removeFiles(dir string, d digest.Digest) error {
	return errors.Join(removeFile(dir, fileName(d)+bitmapSuffix), removeFile(dir, fileName(d)+partSuffix))
}

func removeFile(dir, name string) error {
	path := filepath.Join(dir, name)
	// Not os.Remove, which removes directories too.
	if err := syscall.Unlink(path); err != nil && err != syscall.ENOENT {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

// touch notes that a blob was used now. If that fails, it goes earlier than it should.
func touch(dir, name string) {
	now, _ := unix.TimeToTimespec(time.Now())
	unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW)
}

// isFull reports whether an error says that there is no space.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
