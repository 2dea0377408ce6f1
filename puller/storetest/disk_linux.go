package storetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// SmallDisk mounts a disk of a size, such as "16m", at a directory, until the
// test ends. The function it returns gives the disk another size. Where no disk
// can be mounted, the test is skipped.
func SmallDisk(t testing.TB, dir, size string) (resize func(size string)) {
	t.Helper()
	mount := func(flags uintptr, size string) error {
		return syscall.Mount("tmpfs", dir, "tmpfs", flags, "mode=0700,nr_inodes=64,size="+size)
	}
	if err := mount(0, size); err != nil {
		if os.Geteuid() == 0 && !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skipf("no disk can be mounted here (%v)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return func(size string) {
		t.Helper()
		if err := mount(syscall.MS_REMOUNT, size); err != nil {
			t.Fatal(err)
		}
	}
}

// FillDisk leaves no space for data or for files on a small disk. The function it
// returns gives the space back.
func FillDisk(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	made := []string{path}
	for n := range 100 {
		name := fmt.Sprint(path, n)
		f, err := os.Create(name)
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		f.Close()
		made = append(made, name)
	}
	return func() {
		t.Helper()
		for _, name := range made {
			if err := os.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
}
