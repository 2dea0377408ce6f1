package database

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

func openTest(t *testing.T) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jobs.db")
	d, err := Create(path+".new", path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("b")); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

// A file that is cut off in the midst of a transaction is a SIGBUS.
func TestGuardTurnsFaultsIntoDamage(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 8192)); err != nil {
		t.Fatal(err)
	}
	mapped, err := syscall.Mmap(int(f.Fd()), 0, 8192, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(mapped)
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	err = guard(func() error { sum += mapped[5000]; return nil })
	if !IsDamage(err) {
		t.Errorf("it gives %v, %d", err, sum)
	}
	if err := guard(func() error { return os.ErrClosed }); err != os.ErrClosed {
		t.Errorf("another error becomes %v", err)
	}
}

// A reader ends though the headers go while it reads, and another one comes.
func TestReadersEndWithoutHeaders(t *testing.T) {
	d, path := openTest(t)
	err := d.View(func(*bbolt.Tx) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 2*os.Getpagesize()), 0); err != nil {
			return err
		}
		return d.View(func(*bbolt.Tx) error { return errors.New("it begins") })
	})
	if !IsDamage(err) {
		t.Errorf("the second reader gets %v", err)
	}
}

// Neither a reader nor a change begins on a file that was cut off, since bbolt
// would panic with its locks held.
func TestFileIsCutOffWhileOpen(t *testing.T) {
	d, path := openTest(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-4096); err != nil {
		t.Fatal(err)
	}
	nothing := func(*bbolt.Tx) error { return nil }
	for what, err := range map[string]error{"a reader": d.View(nothing), "a change": d.Update(nothing)} {
		if !IsDamage(err) || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%s gets %v", what, err)
		}
	}
}
