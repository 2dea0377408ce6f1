//go:build unix

package main

import "syscall"

// disableCoreDumps keeps a crash from writing the daemon's memory, which has
// credentials in it, to disk. If the system refuses, the daemon runs all the same.
func disableCoreDumps() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
