package storetest

import (
	"errors"
	"os"
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
