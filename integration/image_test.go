package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// The image that make image builds runs beside the engine, as configs/compose.yaml
// has it: with the engine's socket, and else with no rights at all.
func TestContainerImage(t *testing.T) {
	ref, digest := push(t, "contained", 1, 1<<20)
	const name = "towline:integration-test"
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+site.engine.Host)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("make", "-C", "..", "image", "IMAGE="+name)
	t.Cleanup(func() { remove(t, name) })

	socket := strings.TrimPrefix(site.engine.Host, "unix://")
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	flags, health := composeFlags(t, fmt.Sprint(info.Sys().(*syscall.Stat_t).Gid))
	id := run("docker", slices.Concat([]string{"run", "--detach", "--network=none", "--health-interval=1s"}, flags, []string{
		"--volume", socket + ":/var/run/docker.sock", "--volume", "towline-socket:/run/towline", name})...)
	t.Cleanup(func() {
		resp, err := site.engine.Do(context.Background(), "DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
		if resp, err = site.engine.Do(context.Background(), "DELETE", "/volumes/towline-socket", nil, nil); err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})

	// Another container would have the volume mounted.
	dir := run("docker", "volume", "inspect", "--format={{.Mountpoint}}", "towline-socket")
	c, err := client.New("unix://"+filepath.Join(dir, "towline.sock"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = lab.Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		_, err := c.Engine(ctx)
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, run("docker", "logs", id))
	}
	job, err := c.Pull(ctx, client.PullRequest{Image: ref})
	if err != nil {
		t.Fatal(err)
	}
	if job.Result.Source != puller.SourcePulled || job.Result.Digest != digest {
		t.Errorf("%+v", job.Result)
	}
	if out := run("docker", "exec", id, "/towline", "health"); out != "ready" {
		t.Errorf("its health is %q", out)
	}
	// It is nobody, may do nothing, and keeps its jobs all the same.
	status, err := os.ReadFile("/proc/" + run("docker", "inspect", "--format={{.State.Pid}}", id) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65532\t65532\t", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%q is not in\n%s", want, status)
		}
	}
	if log := run("docker", "logs", id); strings.Contains(log, "level=error") {
		t.Error(log)
	}
	// The engine asks for its health, too.
	err = lab.Poll(ctx, 100*time.Millisecond, func(context.Context) error {
		if h := run("docker", "inspect", "--format={{.State.Health.Status}}", id); h != "healthy" {
			return errors.New("the container is " + h)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// Nothing but the binary is in it, and two empty directories.
	var inspected []struct {
		RootFS struct{ Layers []string }
		Config struct {
			User        string
			Healthcheck struct{ Test []string }
		}
	}
	if err := json.Unmarshal([]byte(run("docker", "image", "inspect", name)), &inspected); err != nil {
		t.Fatal(err)
	}
	if n := len(inspected[0].RootFS.Layers); n != 2 {
		t.Error(fmt.Errorf("the image has %d layers", n))
	}
	if c := inspected[0].Config; c.User != "65532:65532" || !slices.Equal(c.Healthcheck.Test, health) {
		t.Errorf("the image has %+v, configs/compose.yaml asks for %q", c, health)
	}
}
