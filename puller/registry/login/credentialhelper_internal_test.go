package login

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

func TestCredentialHelperHangs(t *testing.T) {
	dir := t.TempDir()
	// The helper and its child hold the write end of a pipe.
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	script := "#!/bin/sh\necho called >>" + dir + "/calls\nexec 3>" + pipe + "\nsleep 600 &\necho started >&3\nwait\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-slow"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h := newCredentialHelpers(2*time.Second, time.Hour)
	for _, want := range []string{"docker-credential-slow did not answer within 2s", "is not called again for 1h0m0s"} {
		if got, err := h.get(t.Context(), "slow", "a.test"); got != (authn.AuthConfig{}) || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want %q", got, err, want)
		}
	}
	if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); strings.Count(string(calls), "called") != 1 {
		t.Errorf("calls: %q", calls)
	}
	// The pipe ends when both are gone.
	if err := reader.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != "started\n" {
		t.Errorf("the helper's child still runs: %q, %v", text, err)
	}
	h.paused["docker-credential-slow"] = time.Now()
	if left := h.pauseLeft("docker-credential-slow"); left > 0 || len(h.paused) > 0 {
		t.Errorf("it is paused for %s more", left)
	}
}

func TestCredentialHelperLongAnswer(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nyes '{\"Username\":\"x\",\"Secret\":\"y\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-loud"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if got, err := newCredentialHelpers(time.Minute, time.Hour).get(t.Context(), "loud", "a.test"); got != (authn.AuthConfig{}) || err == nil || !strings.Contains(err.Error(), "failed") {
		t.Errorf("%v, %v", got, err)
	}
}
