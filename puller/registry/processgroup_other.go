//go:build !unix

package registry

import "os/exec"

// killGroup does nothing: only the program itself is killed.
func killGroup(*exec.Cmd) {}
