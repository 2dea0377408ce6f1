package bolt_test

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/puller/bolt"
)

func TestOpenSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		mode os.FileMode // of jobs.db
		want string
	}{
		"no rights":           {0, "permission denied; let user"},
		"rights to read":      {0o400, "permission denied; let user"},
		"a directory":         {os.ModeDir | 0o700, "not a regular file"},
		"a file as state_dir": {os.ModeSymlink, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			var err error
			switch {
			case c.mode.IsDir():
				err = os.Mkdir(b.file(), 0o700)
			case c.mode.IsRegular():
				closeIt(t, b.open())
				err = os.Chmod(b.file(), c.mode)
			default:
				if err = os.WriteFile(b.dir+"/file", nil, 0o600); err == nil {
					b.dir += "/file"
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			open := func() error { _, err := bolt.Open(t.Context(), b.dir, b.options()); return err }
			if c.mode.IsRegular() {
				err = asNobody(t, b.dir, open)
			} else {
				err = open()
			}
			if err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it gives %v", err)
			}
			if len(b.aside()) > 0 {
				t.Error("it was set aside")
			}
		})
	}
}

// asNobody calls open on a thread that owns nothing, where this process may
// read everything. The directory stays its own.
func asNobody(t *testing.T, dir string, open func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return open()
	}
	const nobody = 65534
	for _, name := range []string{dir, dir + "/lock", dir + "/jobs.db"} {
		if err := os.Chown(name, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	for up := dir; up != os.TempDir() && up != "/"; up = up[:strings.LastIndex(up, "/")] {
		if err := os.Chmod(up, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends
		if err := syscall.Setfsuid(nobody); err != nil {
			result <- err
			return
		}
		result <- open()
	}()
	return <-result
}
