//go:build unix

package main

import "syscall"

// noCore keeps a crash from leaving the daemon's memory, with the credentials in
// it, on disk. Where that can't be had, the daemon runs all the same.
func noCore() { syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
