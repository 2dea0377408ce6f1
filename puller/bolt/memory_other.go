//go:build !linux

package bolt

const populate = 0

func forget(at, size uintptr) {}
