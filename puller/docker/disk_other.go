//go:build !linux

package docker

import "github.com/towline/towline/puller"

// fileSystem knows nothing: engines run elsewhere, or in a virtual machine.
func fileSystem(string) (d puller.Disk, known bool) { return d, false }

func sameFileSystem(string, string) bool { return false }
