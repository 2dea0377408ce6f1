package storetest

import (
	"os"
	"syscall"
	"testing"
)

// memoryLeast is how much room a file system in memory must have for MemoryDir, in bytes.
const memoryLeast = 1 << 30

// MemoryDir is t.TempDir, but in memory where that can be had. It is for tests that save
// much, and whose subject is not the disk: a save waits for the disk.
func MemoryDir(t testing.TB) string {
	t.Helper()
	var memory syscall.Statfs_t
	if syscall.Statfs("/dev/shm", &memory) != nil || int64(memory.Bavail)*int64(memory.Bsize) < memoryLeast {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "towline-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
