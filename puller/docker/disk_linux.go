package docker

import "syscall"

// freeBytes returns how much of a directory's file system is left for those who
// are not root (statfs(2)).
func freeBytes(dir string) (free int64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	unit := s.Frsize // what blocks are counted in; Bsize is what is good to read at once
	if unit == 0 {
		unit = s.Bsize
	}
	return int64(s.Bavail) * int64(unit), true
}
