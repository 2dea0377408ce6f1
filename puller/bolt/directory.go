package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/bolt/database"
)

// Names in the state directory.
const (
	fileName = "jobs.db"
	newName  = "jobs.db.new" // a file that is not complete yet
	lockName = "lock"
	roomName = "room" // exists for a moment only
)

// File returns the path of the file that keeps the jobs, in a state directory.
func File(dir string) string { return filepath.Join(dir, fileName) }

// makeDir makes the state directory with mode 0700. A directory that gives rights
// to other users gets that mode too, if it holds Towline's own files only: a mode
// of a shared directory, such as /tmp, is not Towline's to change. makeDir refuses
// a shared directory to which other users can write, because they could replace
// the store.
func makeDir(dir string, log logrus.FieldLogger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	mode := info.Mode()
	if mode.Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if foreign := foreignEntry(entries); foreign == "" {
		err := os.Chmod(dir, 0o700)
		if err == nil {
			log.WithFields(logrus.Fields{"path": dir, "was": fmt.Sprintf("%04o", mode.Perm())}).Warn("other users had rights to state_dir; its mode is 0700 now")
			return nil
		}
		if mode.Perm()&0o022 != 0 {
			return fmt.Errorf("other users can write to it (mode %04o), and its mode can't be changed (%w); set state_dir to a new directory in it", mode.Perm(), err)
		}
	} else if mode.Perm()&0o022 != 0 {
		return fmt.Errorf("other users can write to it (mode %04o), and it holds %s, which is not Towline's; set state_dir to a new directory in it, or run chmod 700 on it", mode.Perm(), foreign)
	}
	log.WithFields(logrus.Fields{"path": dir, "mode": fmt.Sprintf("%04o", mode.Perm())}).Warn("other users can look into state_dir; set it to a directory of its own, or run chmod 700 on it")
	return nil
}

// foreignEntry returns the name of an entry that Towline does not make, or "".
func foreignEntry(entries []fs.DirEntry) string {
	for _, e := range entries {
		switch name := e.Name(); {
		case name == lockName, name == roomName, name == fileName, strings.HasPrefix(name, fileName+"."):
		case e.IsDir() && (name == "output" || name == "blobs" || name == "fleet"):
		default:
			return name
		}
	}
	return ""
}

// lockDir gives the directory to this process until the file is closed or the
// process ends. The file stays, with the process ID of its last owner.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if database.IsFull(err) { // then no process has a lock file, and the directory itself can be locked
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
	if err != nil && !database.IsFull(err) { // the lock holds without the number
		f.Close()
		return nil, err
	}
	return f, nil
}
