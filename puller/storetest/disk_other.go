//go:build !linux

package storetest

import "testing"

// SmallDisk skips the test: a disk of a size can only be mounted on Linux.
func SmallDisk(t testing.TB, _, _ string) (resize func(size string)) {
	t.Helper()
	t.Skip("a small disk can only be mounted on Linux")
	return nil
}
