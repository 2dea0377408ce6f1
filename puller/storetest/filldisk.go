package storetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// FillDisk leaves no space for data or for files on a small disk. The function it
// returns gives the space back.
func FillDisk(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	made := []string{path}
	for n := range 100 {
		name := fmt.Sprint(path, n)
		f, err := os.Create(name)
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		f.Close()
		made = append(made, name)
	}
	return func() {
		t.Helper()
		for _, name := range made {
			if err := os.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
}
