package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// NeedPodman starts a Podman service of its own in a new short directory, ends it at
// the end of the test, and returns it as an engine. Its Engine is not private: it
// can't be stopped or killed. It pulls over plain HTTP from the registry at
// 127.0.0.1:port that is named.
//
// It needs root. Where there is no podman, and the machine is a Debian or an Ubuntu,
// it is installed with apt-get. Where it can't be had, the test is skipped, whatever
// REQUIRE_ENGINE says: no more than some tests is lost.
func NeedPodman(t testing.TB, registry string) *Engine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a Podman service of our own needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	binary, err := podmanBinary(ctx, t.Logf)
	if err != nil {
		t.Skipf("podman is not to be had here: %v", err)
	}
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	proc, err := startPodman(ctx, binary, dir, registry)
	t.Cleanup(func() {
		if proc != nil {
			proc.stop(stopGrace)
		}
		if err := unmountUnder(dir); err != nil {
			t.Error(err) // and remove nothing: it might be reached through a mount
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	socket := podmanSocket(dir)
	engine := &Engine{Host: "unix://" + socket, client: socketClient("unix", socket)}
	if err := proc.ready(ctx, engine.Ping); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("lab: podman: %v\n%s", err, lastLines(string(log), 15))
	}
	return engine
}

func podmanSocket(dir string) string { return filepath.Join(dir, "podman.sock") }

// startPodman starts the service. All it keeps lies in dir, its locks too.
func startPodman(ctx context.Context, binary, dir, registry string) (*process, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	conf := fmt.Sprintf(`[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = %q
[network]
network_config_dir = %q
`, at("tmp"), at("networks"))
	registries := fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", registry)
	if err := errors.Join(
		os.WriteFile(at("containers.conf"), []byte(conf), 0o600),
		os.WriteFile(at("registries.conf"), []byte(registries), 0o600),
	); err != nil {
		return nil, err
	}
	log, err := os.Create(at("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(binary, "--root", at("data"), "--runroot", at("run"), "--storage-driver", "vfs",
		"system", "service", "--time=0", "unix://"+podmanSocket(dir))
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+at("containers.conf"), "CONTAINERS_REGISTRIES_CONF="+at("registries.conf"), "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	return start(cmd)
}
