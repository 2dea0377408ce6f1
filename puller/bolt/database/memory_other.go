//go:build !linux

package database

const populate = 0

func forget(at, size uintptr) {}
