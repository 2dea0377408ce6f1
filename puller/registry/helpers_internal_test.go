package registry

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

func TestAHelperThatHangsIsEndedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	child := filepath.Join(dir, "child")
	script := "#!/bin/sh\necho called >>" + dir + "/calls\nsleep 600 &\necho $! >" + child + "\nwait\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-slow"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h := newHelpers(2*time.Second, time.Hour)
	for _, want := range []string{"docker-credential-slow did not answer within 2s", "is not asked again for 1h0m0s"} {
		if got, err := h.get(t.Context(), "slow", "a.test"); got != (authn.AuthConfig{}) || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want %q", got, err, want)
		}
	}
	if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); strings.Count(string(calls), "called") != 1 {
		t.Errorf("it was called %q", calls)
	}
	raw, _ := os.ReadFile(child)
	id, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatalf("what it started is not known: %q", raw)
	}
	state, _ := os.ReadFile("/proc/" + strconv.Itoa(id) + "/stat")
	if syscall.Kill(id, 0) == nil && !strings.Contains(string(state), ") Z ") {
		t.Errorf("what it started still runs: %s", state)
	}
	h.hung["docker-credential-slow"] = time.Now()
	if left := h.left("docker-credential-slow"); left > 0 || len(h.hung) > 0 {
		t.Errorf("it is left alone for %s more", left)
	}
}

func TestAHelpersAnswerIsBounded(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nyes '{\"Username\":\"x\",\"Secret\":\"y\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-loud"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if got, err := newHelpers(time.Minute, time.Hour).get(t.Context(), "loud", "a.test"); got != (authn.AuthConfig{}) || err == nil || !strings.Contains(err.Error(), "failed") {
		t.Errorf("%v, %v", got, err)
	}
}
