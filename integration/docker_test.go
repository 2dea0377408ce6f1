package integration_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dockerimage "github.com/docker/docker/api/types/image"
	docker "github.com/docker/docker/client"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// dockerCLI makes commands of Docker's own command line, without anybody's settings.
func dockerCLI(t *testing.T) func(host string, args ...string) *exec.Cmd {
	t.Helper()
	lab.Need(t, site.err)
	path, err := lab.DockerCLI(t.Context(), t.Logf)
	lab.Need(t, err)
	config := t.TempDir()
	return func(host string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--config", config, "--host", host}, args...)...)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DOCKER_") })
		return cmd
	}
}

// said is how a command ended and what it said.
type said struct {
	code           int
	stdout, stderr string
}

func runDocker(t *testing.T, cmd *exec.Cmd) said {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ends returns what of a pull's lines does not depend on how fast it was: the first
// line, the layers that are complete, and the last lines.
func (s said) ends() []string {
	lines := strings.Split(strings.TrimSpace(s.stdout), "\n")
	var complete []string
	for _, l := range lines {
		if strings.HasSuffix(l, ": Pull complete") {
			complete = append(complete, l)
		}
	}
	slices.Sort(complete)
	return slices.Concat(lines[:1], complete, lines[max(1, len(lines)-3):])
}

// What Docker's own command line says and exits with is the same, whether the engine
// pulls by itself or through Towline.
func TestDockerPull(t *testing.T) {
	cli := dockerCLI(t)
	good, digest := push(t, "dockercli", 3, 1<<18)
	byDigest := strings.TrimSuffix(good, ":v1") + "@" + digest
	closed, err := lab.StartRegistry(lab.RegistryOptions{Username: "ada", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed.Close() })
	d, _ := daemon(t)
	for _, c := range []struct {
		name    string
		args    []string
		present bool
		code    int
		says    string // on stderr
	}{
		{"an image", []string{good}, false, 0, ""},
		{"an image that is present", []string{good}, true, 0, ""},
		{"an image by digest", []string{byDigest}, false, 0, ""},
		{"quietly", []string{"--quiet", good}, false, 0, ""},
		{"no such image", []string{site.registry.Ref("nope", "v1")}, false, 1, "not found"},
		{"denied", []string{closed.Ref("private", "v1")}, false, 1, "no basic auth credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got [2]said
			for i, host := range []string{site.engine.Host, d.Host} {
				if !c.present {
					remove(t, c.args[len(c.args)-1])
					remove(t, good)
				}
				got[i] = runDocker(t, cli(host, append([]string{"pull"}, c.args...)...))
			}
			engine, towline := got[0], got[1]
			if towline.code != c.code || engine.code != c.code || !slices.Equal(towline.ends(), engine.ends()) {
				t.Errorf("through Towline: exit code %d\n%s%s\nfrom the engine: exit code %d\n%s%s",
					towline.code, towline.stdout, towline.stderr, engine.code, engine.stdout, engine.stderr)
			}
			if !strings.HasPrefix(towline.stderr, "Error response from daemon: ") && c.says != "" || !strings.Contains(towline.stderr, c.says) || (towline.stderr == "") != (engine.stderr == "") {
				t.Errorf("through Towline: %s\nfrom the engine: %s", towline.stderr, engine.stderr)
			}
			there, err := site.engine.HasImage(t.Context(), c.args[len(c.args)-1])
			if err != nil || there != (c.code == 0) {
				t.Errorf("the image is there: %v, %v", there, err)
			}
		})
	}
	// What the engine takes for a success.
	arm := runDocker(t, cli(d.Host, "pull", "--platform", "linux/arm64", good))
	if arm.code != 1 || !strings.Contains(arm.stderr, "not linux/arm64") {
		t.Errorf("another platform: exit code %d\n%s%s", arm.code, arm.stdout, arm.stderr)
	}
	if ran := runDocker(t, cli(d.Host, "run", good)); ran.code != 125 || !strings.Contains(ran.stderr, "not for towline") {
		t.Errorf("docker run: exit code %d\n%s%s", ran.code, ran.stdout, ran.stderr)
	}
	if v := runDocker(t, cli(d.Host, "version", "--format", "{{.Server.Platform.Name}} {{.Server.APIVersion}}")); v.stdout != "Towline 1.51\n" {
		t.Errorf("docker version: exit code %d\n%s%s", v.code, v.stdout, v.stderr)
	}
}

// The registry holds each layer back until a bar was drawn.
func TestDockerPullBars(t *testing.T) {
	cli := dockerCLI(t)
	ref, digest := push(t, "dockerbars", 2, 2<<20)
	d, _ := daemon(t)
	for _, host := range []string{site.engine.Host, d.Host} {
		remove(t, ref)
		release := site.registry.Hold(1 << 20)
		drawn := false
		late := time.AfterFunc(10*time.Second, release)
		out, err := lab.OnTerminal(cli(host, "pull", ref), func(so []byte) {
			if bytes.Contains(so, []byte("B/2.")) && late.Stop() {
				drawn = true
				release()
			}
		})
		late.Stop()
		release()
		text := string(out)
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if !drawn {
			t.Errorf("%s: nothing is reported of the download before it ends", host)
		}
		for _, want := range []string{": Downloading [", "]  ", "B/2.", "Pull complete", "Digest: " + digest, "Status: Downloaded newer image for " + ref, "\x1b["} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%q", host, want, text)
			}
		}
	}
}

func TestDockerPullInterrupted(t *testing.T) {
	cli := dockerCLI(t)
	ref, _ := push(t, "dockerctrlc", 1, 2<<20)
	d, c := daemon(t)
	release := site.registry.Hold(1 << 20)
	defer release()
	cmd := cli(d.Host, "pull", ref)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := lab.Poll(t.Context(), 20*time.Millisecond, func(ctx context.Context) error {
		jobs, _, err := c.Jobs(ctx, puller.Filter{State: puller.StateActive})
		if err == nil && (len(jobs) == 0 || jobs[0].Phase != puller.PhasePulling) {
			err = errors.New("it does not pull")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it has ended well")
	}
	err = lab.Poll(t.Context(), 20*time.Millisecond, func(ctx context.Context) error {
		jobs, _, err := c.Jobs(ctx, puller.Filter{State: puller.StateCanceled})
		if err == nil && len(jobs) == 0 {
			err = errors.New("no job is canceled")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Docker's Go SDK, as a program uses it: the credentials, two pulls at once, and a look
// at the image.
func TestDockerSDK(t *testing.T) {
	lab.Need(t, site.err)
	closed, err := lab.StartRegistry(lab.RegistryOptions{Username: "ada", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed.Close() })
	made, err := lab.RandomImage(seeds.Add(1), 2, 1<<20, "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := closed.Push(t.Context(), "sdk", "v1", made)
	if err != nil {
		t.Fatal(err)
	}
	ref := closed.Ref("sdk", "v1")
	t.Cleanup(func() { remove(t, ref) })
	d, _ := daemon(t)
	sdk, err := docker.NewClientWithOpts(docker.WithHost(d.Host), docker.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer sdk.Close()
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"secret"}`))
	release := closed.Hold(1 << 19)
	defer release()
	var bodies [2]io.ReadCloser
	for i := range bodies {
		if bodies[i], err = sdk.ImagePull(t.Context(), ref, dockerimage.PullOptions{RegistryAuth: auth}); err != nil {
			t.Fatal(err)
		}
		defer bodies[i].Close()
	}
	release()
	for _, body := range bodies {
		lines, err := statuses(body)
		if n := len(lines); err != nil || n < 3 || lines[0] != "Pulling from sdk" || lines[n-2] != "Digest: "+digest || lines[n-1] != "Status: Downloaded newer image for "+ref {
			t.Errorf("%v: %q", err, lines)
		}
	}
	for path, n := range closed.Counts().ByPath {
		if strings.Contains(path, "/blobs/") && n != 1 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	found, err := sdk.ImageInspect(t.Context(), ref)
	id, err2 := site.engine.ImageID(t.Context(), ref)
	if err != nil || err2 != nil || found.ID != id || !slices.Contains(found.RepoTags, ref) || found.Architecture != "amd64" {
		t.Errorf("%+v, the engine has %s: %v, %v", found, id, err, err2)
	}
	if _, err := sdk.ImagePull(t.Context(), ref, dockerimage.PullOptions{}); err == nil {
		t.Error("another one's credentials pull for who has none")
	}
	if info, err := sdk.Info(t.Context()); err != nil || info.IndexServerAddress == "" || info.OSType != "linux" {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := sdk.ImageRemove(t.Context(), ref, dockerimage.RemoveOptions{}); err == nil || !strings.Contains(err.Error(), "not for towline") {
		t.Errorf("an image is removed: %v", err)
	}
}

// statuses reads a pull's stream to its end.
func statuses(r io.Reader) ([]string, error) {
	var all []string
	for d := pullstream.NewDecoder(r, 0); ; {
		m, err := d.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if message, failed := m.Failure(); failed {
			return all, fmt.Errorf("an error in the stream: %s", message)
		}
		all = append(all, m.Status)
	}
}
