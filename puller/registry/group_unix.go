//go:build unix

package registry

import (
	"os/exec"
	"syscall"
)

// endGroup has a program ended together with all that it has started.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
