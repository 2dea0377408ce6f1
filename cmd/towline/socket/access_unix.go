//go:build unix

package socket

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// access returns why this process may not connect to a socket: that takes the right to
// write to it (unix(7)).
func access(path string, info fs.FileInfo) *Fault {
	if unix.Access(path, unix.W_OK) == nil {
		return nil
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return &Fault{Reason: path + " may not be written to by " + process(), Fix: "Run this as root"}
	}
	fix := "Run this as root"
	if info.Mode().Perm()&0o020 != 0 && owner.Gid != 0 {
		fix = fmt.Sprintf("Join its group and log in again: sudo usermod -aG %s %s", groupName(owner.Gid), userName(uint32(os.Getuid())))
	}
	return &Fault{
		Reason: fmt.Sprintf("%s, and %s may not use it", describe(path, info), process()),
		Fix:    fix,
	}
}

func describe(path string, info fs.FileInfo) string {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return path
	}
	return fmt.Sprintf("%s has mode %#o, owner %s (%d) and group %s (%d)",
		path, info.Mode().Perm(), userName(owner.Uid), owner.Uid, groupName(owner.Gid), owner.Gid)
}

// process names the user of this process.
func process() string {
	return fmt.Sprintf("this process (uid %d, gid %d)", os.Geteuid(), os.Getegid())
}

func userName(id uint32) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(id), 10)); err == nil {
		return u.Username
	}
	return strconv.FormatUint(uint64(id), 10)
}

func groupName(id uint32) string {
	if g, err := user.LookupGroupId(strconv.FormatUint(uint64(id), 10)); err == nil {
		return g.Name
	}
	return strconv.FormatUint(uint64(id), 10)
}
