//go:build !linux

package bolt

func forget(at, size uintptr) {}
