package bolt

import "golang.org/x/sys/unix"

// forget takes memory of a file out of the process; it is read again when it is
// asked for (madvise(2), MADV_DONTNEED on a shared map).
func forget(at, size uintptr) { unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_DONTNEED) }
