// Package lab holds the real parts that integration tests, the demo and the
// benchmarks are made of: a Docker engine (found, or a private dockerd), a real
// registry whose answers can be disturbed, images built on the spot, and a
// Towline daemon built from this source tree.
//
// Everything here runs on one Linux machine. The caller that started
// a part must call its Close or Stop; nothing else ends it. Unless a method says
// otherwise, it may be called from several goroutines at once.
package lab
