package database

import "golang.org/x/sys/unix"

// populate makes the kernel read a file in one go when it is mapped. Reading a
// cold file page by page takes ten times as long.
const populate = unix.MAP_POPULATE

// forget takes memory of a file out of the process. The next access reads it
// again (madvise(2), MADV_DONTNEED on a shared map).
func forget(at, size uintptr) { unix.Syscall(unix.SYS_MADVISE, at, size, unix.MADV_DONTNEED) }
