package client_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/towline/towline/api/client"
)

func TestHost(t *testing.T) {
	const system = "unix:///run/towline/towline.sock"
	dir, err := os.MkdirTemp("", "tl") // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own := filepath.Join(dir, "towline", "towline.sock")
	t.Setenv("TOWLINE_HOST", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	want := func(want string) {
		t.Helper()
		if got := client.Host(); got != want {
			t.Errorf("the host is %s, want %s", got, want)
		}
	}
	want(system) // there is no other socket
	if err := os.Mkdir(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", own)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if os.Geteuid() == 0 {
		want(system)
	} else {
		want("unix://" + own)
	}
	t.Setenv("TOWLINE_HOST", "https://towline.test:7077")
	want("https://towline.test:7077")
	if c, err := client.New("", ""); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	t.Setenv("TOWLINE_HOST", "nonsense")
	if _, err := client.New("", ""); err == nil {
		t.Error("a wrong TOWLINE_HOST is taken")
	}
}
