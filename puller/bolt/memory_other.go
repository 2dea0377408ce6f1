//go:build !linux

package bolt

import "os"

func forget(at, size uintptr) {}

func readAhead(f *os.File, size int64) {}
