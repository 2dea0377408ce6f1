package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockDir makes the directory this process's own until the file is closed or
// the process ends. The file stays, with the last owner's process ID.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if isFull(err) { // then nobody has it, and the directory itself can be locked
		f, err = os.Open(dir)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		owner := "another towline"
		if pid, _ := io.ReadAll(io.LimitReader(f, 20)); len(pid) > 0 {
			owner += " (pid " + strings.TrimSpace(string(pid)) + ")"
		}
		return nil, fmt.Errorf("%s uses it; stop that one, or give this one a state_dir of its own", owner)
	}
	if f.Name() == dir {
		return f, nil
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil && !isFull(err) { // the lock holds without the number
		f.Close()
		return nil, err
	}
	return f, nil
}
