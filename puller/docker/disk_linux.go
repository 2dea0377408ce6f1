package docker

import (
	"syscall"

	"github.com/towline/towline/puller"
)

// fileSystem returns the size of a directory's file system, and how much of it is left for
// those who are not root (statfs(2)).
func fileSystem(dir string) (d puller.Disk, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return d, false
	}
	unit := int64(s.Frsize) // what blocks are counted in; Bsize is what is good to read at once
	if unit == 0 {
		unit = int64(s.Bsize)
	}
	// What is kept for root is not there for others.
	kept := int64(s.Bfree) - int64(s.Bavail)
	return puller.Disk{Total: (int64(s.Blocks) - kept) * unit, Free: int64(s.Bavail) * unit}, true
}

// sameFileSystem reports whether two directories are on one file system (stat(2)).
func sameFileSystem(a, b string) bool {
	var one, other syscall.Stat_t
	return syscall.Stat(a, &one) == nil && syscall.Stat(b, &other) == nil && one.Dev == other.Dev
}
