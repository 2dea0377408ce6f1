package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/integration/lab"
)

func TestTowline(t *testing.T) {
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "bin")
	if err := lab.BuildStatic(t.Context(), filepath.Join("testdata", "daemon"), bin); err != nil {
		t.Fatal(err)
	}
	opts := lab.TowlineOptions{
		EngineHost: "unix:///e.sock", Listen: []string{"tcp://127.0.0.1:0"},
		Config: "log: {level: debug}\n", Env: []string{"GREETING=hi"},
	}
	towline, err := lab.StartTowline(t.Context(), bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := "listen:\n  - \"" + towline.Host + "\"\n  - \"tcp://127.0.0.1:0\"\nstate_dir: \"" + dir +
		"/state\"\nengine: {host: \"unix:///e.sock\"}\nmirror: {mode: none}\nlog: {level: debug}\nhi\n"
	if got := towline.Log(); got != want {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
	for range 2 {
		if err := towline.Stop(); err != nil {
			t.Error(err)
		}
	}
	opts.Config = "mirror: {mode: registry}\n"
	again, err := lab.StartTowline(t.Context(), bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Log(); strings.Count(got, "mirror:") != 1 || !strings.Contains(got, "\n"+opts.Config) {
		t.Errorf("with a mirror of its own, log:\n%s", got)
	}
	again.Kill()
	if err := again.Stop(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("killed, it ended with %v", err)
	}
	if _, err := lab.StartTowline(t.Context(), "/bin/false", dir, opts); err == nil || !strings.Contains(err.Error(), "false ended: exit status 1") {
		t.Errorf("a daemon that ends at once: %v", err)
	}
}
