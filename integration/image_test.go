package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// The image that make image builds runs beside the engine, with the engine's
// socket mounted, and pulls through it.
func TestContainerImagePullsThroughTheEngineItRunsOn(t *testing.T) {
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

	dir, err := os.MkdirTemp(site.dir, "c")
	if err != nil {
		t.Fatal(err)
	}
	socket := strings.TrimPrefix(site.engine.Host, "unix://")
	id := run("docker", "run", "--detach", "--network=none", "--user=0:0",
		"--volume", socket+":/var/run/docker.sock", "--volume", dir+":/run/towline", name)
	t.Cleanup(func() {
		resp, err := site.engine.Do(context.Background(), "DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})

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
	job, err := c.Pull(ctx, puller.PullRequest{Image: ref})
	if err != nil {
		t.Fatal(err)
	}
	if job.Result.Source != puller.Pulled || job.Result.Digest != digest {
		t.Errorf("%+v", job.Result)
	}
	// Nothing but the binary is in it.
	var inspected []struct{ RootFS struct{ Layers []string } }
	if err := json.Unmarshal([]byte(run("docker", "image", "inspect", name)), &inspected); err != nil {
		t.Fatal(err)
	}
	if n := len(inspected[0].RootFS.Layers); n != 1 {
		t.Error(fmt.Errorf("the image has %d layers", n))
	}
}
