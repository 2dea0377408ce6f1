//go:build !unix

package login

import "os/exec"

// killGroup does nothing: only the program itself is killed.
func killGroup(*exec.Cmd) {}
