package ownerfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/puller/ownerfile"
)

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		says string // "" for no error
	}{
		"whole":     {func(path string) error { return os.WriteFile(path, []byte("1234"), 0o640) }, ""},
		"too large": {func(path string) error { return os.WriteFile(path, []byte("12345"), 0o600) }, "larger than 4 bytes"},
		"absent":    {func(string) error { return nil }, "no such file"},
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "no file"},
		"fifo":      {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "no file"},
		"group": {func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o660)
		}, "chmod go-w"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			content, mode, err := ownerfile.Read(path, 4)
			switch {
			case c.says == "" && (err != nil || string(content) != "1234" || mode != 0o640):
				t.Errorf("%q, %v, %v", content, mode, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("the error is %v, want %q", err, c.says)
			}
		})
	}
}
