package bolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget takes memory of a file out of the process; it is read again when it is
// asked for (madvise(2), MADV_DONTNEED on a shared map).
func forget(at, size uintptr) { unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_DONTNEED) }

// readAhead has the kernel read a file in long runs, before it is read page by
// page in the order of its tree.
func readAhead(f *os.File, size int64) {
	unix.Fadvise(int(f.Fd()), 0, size, unix.FADV_WILLNEED)
}
