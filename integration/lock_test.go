package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/integration/lab"
)

// docker-compose takes what "towline lock" writes, and makes containers of exactly the
// images that were proven, also when the tag has moved on.
func TestLockForDockerCompose(t *testing.T) {
	image, digest := push(t, "locked", 1, 1<<10)
	other, otherDigest := push(t, "locked2", 1, 1<<10)
	compose, err := lab.DockerCompose(t.Context(), t.Logf)
	lab.Need(t, err)
	docker, err := lab.DockerCLI(t.Context(), t.Logf)
	lab.Need(t, err)
	d, _ := daemon(t)
	dir := t.TempDir()
	const file = "services:\n  web: {image: %q, network_mode: none, command: [x]}\n  \"yes\": {image: %q, network_mode: none, command: [x]}\n"
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), fmt.Appendf(nil, file, image, other), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = dir
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DOCKER_") || strings.HasPrefix(v, "COMPOSE_") }),
			"DOCKER_HOST="+site.engine.Host, "DOCKER_CONFIG="+dir, "TOWLINE_HOST="+d.Host)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, errs.String())
		}
		return string(out)
	}
	bin, err := filepath.Abs(site.bin)
	if err != nil {
		t.Fatal(err)
	}
	run(t.Context(), bin, "lock", "compose.yaml")
	both := []string{"-p", "towlinelock", "-f", "compose.yaml", "-f", "compose.lock.yaml"}
	var read struct {
		Services map[string]struct{ Image string }
	}
	if err := yaml.Unmarshal([]byte(run(t.Context(), compose, append(both, "config")...)), &read); err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{"web": image + "@" + digest, "yes": other + "@" + otherDigest} {
		if got := read.Services[service].Image; got != want {
			t.Errorf("docker-compose reads %s for %s, want %s", got, service, want)
		}
	}

	// Somebody pushes another image under the tag, and the engine gets it.
	id, err := site.engine.ImageID(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := lab.RandomImage(seeds.Add(1), 1, 1<<10, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.registry.Push(t.Context(), "locked", "v1", moved); err != nil {
		t.Fatal(err)
	}
	run(t.Context(), bin, "pull", "--policy", "always", "-q", image)
	t.Cleanup(func() { run(context.Background(), compose, append(both, "down")...) })
	asked := site.registry.Counts().BlobGets
	run(t.Context(), compose, append(both, "up", "--no-start")...)
	used := strings.Fields(run(t.Context(), docker, "inspect", "--format", "{{.Image}}", "towlinelock_web_1"))
	if len(used) != 1 || used[0] != id || site.registry.Counts().BlobGets != asked {
		t.Errorf("the container has the image %s, want %s; the registry was asked for %d blobs", used, id, site.registry.Counts().BlobGets-asked)
	}
}
