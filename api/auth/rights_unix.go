//go:build unix

package auth

import (
	"os"
	"syscall"
)

// keepRights sets the mode and the owner of a file to those of another one.
func keepRights(f *os.File, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(info.Mode().Perm())
}
