//go:build unix

package socket_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/cmd/towline/socket"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("TEST_CHECK_SOCKET"); path != "" {
		if fault := socket.Check(path, "start it"); fault != nil {
			os.Stdout.WriteString(fault.Error())
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCheck(t *testing.T) {
	dir, err := os.MkdirTemp("", "socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	if fault := socket.Check(path, "towline serve"); fault == nil || fault.Error() != "there is no socket at "+path+". Start what listens there: towline serve" {
		t.Errorf("no socket: %v", fault)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fault := socket.Check(path, ""); fault != nil {
		t.Errorf("one that may be used: %v", fault)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if fault := socket.Check(file, ""); fault == nil || !strings.Contains(fault.Reason, "is no socket") {
		t.Errorf("a file: %v", fault)
	}
	if os.Geteuid() != 0 {
		return // only root can become another user
	}
	os.Chmod(dir, 0o755)
	as := func(mode os.FileMode, group int) string {
		os.Chmod(path, mode)
		os.Chown(path, 0, group)
		self := filepath.Join(dir, "test")
		program, _ := os.ReadFile("/proc/self/exe")
		if err := os.WriteFile(self, program, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = []string{"TEST_CHECK_SOCKET=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return string(out)
	}
	if got := as(0o660, 65432); !strings.Contains(got, "has mode 0660, owner root (0) and group 65432 (65432), and this process (uid 65533, gid 65533) may not use it. Join its group and log in again: sudo usermod -aG 65432 65533") {
		t.Errorf("of another group: %s", got)
	}
	if got := as(0o600, 0); !strings.Contains(got, "mode 0600") || !strings.HasSuffix(got, "Run this as root") {
		t.Errorf("of root: %s", got)
	}
	if got := as(0o666, 0); got != "" {
		t.Errorf("of everybody: %s", got)
	}
}
