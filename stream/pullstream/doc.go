// Package pullstream reads what a Docker engine says while it pulls an image:
// bytes → Decoder → Message → Progress. Sum adds up many pulls.
// It also writes the lines of Docker's own stream. It starts no goroutine and
// imports the standard library only.
package pullstream
