package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
)

// towline runs the command line against a daemon.
func towline(t *testing.T, host string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), site.bin, append([]string{"--host", host}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestCommandExitCodes(t *testing.T) {
	good, digest := push(t, "cli", 2, 1<<20)
	d, _ := daemon(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"done", []string{"pull", good}, 0, digest},
		{"no such image", []string{"pull", site.registry.Ref("nope", "v1")}, 3, "not_found"},
		{"not a reference", []string{"pull", "UPPER"}, 3, "image: "},
		{"registry down", []string{"pull", "--retries", "0", "127.0.0.1:1/x"}, 4, "registry_unavailable"},
		{"one of two fails", []string{"pull", good, site.registry.Ref("nope", "v1")}, 3, "not_found"},
		{"wrong platform", []string{"pull", "--policy", "always", "--platform", "linux/arm64", good}, 3, "platform_mismatch"},
		{"no image named", []string{"pull"}, 2, "--help"},
		{"no such flag", []string{"pull", "--nope", good}, 2, "--nope"},
		{"no such job", []string{"jobs", "show", "01"}, 3, "not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, code := towline(t, d.Host, c.args...)
			if code != c.code || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("exit code %d, not %d, or %q is not said:\n%s%s", code, c.code, c.says, stdout, stderr)
			}
			if i := strings.IndexFunc(stdout+stderr, func(r rune) bool { return r < ' ' && r != '\n' }); i >= 0 {
				t.Errorf("a control character in %q", stdout+stderr)
			}
		})
	}
	_, stderr, code := towline(t, "unix:///nonexistent.sock", "pull", good)
	if code != 5 || !strings.Contains(stderr, "/nonexistent.sock") {
		t.Errorf("no daemon: exit code %d: %s", code, stderr)
	}
}

func TestCommandJSON(t *testing.T) {
	ref, _ := push(t, "json", 2, 1<<20)
	d, _ := daemon(t)
	stdout, stderr, code := towline(t, d.Host, "--json", "pull", ref)
	if code != 0 {
		t.Fatal(stderr)
	}
	var last puller.Event
	for line := range strings.Lines(stdout) {
		last = puller.Event{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
	}
	if last.Type != "result" || last.Result.State != puller.StateSucceeded {
		t.Errorf("the last event is %+v", last)
	}
}

func TestCtrlCCancelsTheJob(t *testing.T) {
	ref, _ := push(t, "interrupt", 1, 64<<20)
	site.registry.Throttle(1 << 20)
	defer site.registry.Throttle(0)
	d, c := daemon(t)
	cmd := exec.CommandContext(t.Context(), site.bin, "--host", d.Host, "pull", ref)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for text := ""; !strings.Contains(text, ref+": pulling"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		text += string(buf[:n])
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	jobs, _, err := c.Jobs(t.Context(), puller.Filter{Image: ref})
	if err != nil || len(jobs) != 1 || jobs[0].State != puller.StateCanceled {
		t.Errorf("after Ctrl-C: %+v %v", jobs, err)
	}
}

func TestCommandJobs(t *testing.T) {
	ref, _ := push(t, "jobs", 1, 1<<10)
	d, c := daemon(t)
	job, err := c.Pull(t.Context(), client.PullRequest{Image: ref})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"jobs"}, {"jobs", "ls", "--state", "succeeded"}, {"jobs", "show", job.ID}, {"jobs", "events", job.ID}, {"--json", "jobs", "events", job.ID}} {
		stdout, stderr, code := towline(t, d.Host, args...)
		if code != 0 || !strings.Contains(stdout, ref) {
			t.Errorf("%v: exit code %d: %s%s", args, code, stdout, stderr)
		}
	}
	if _, stderr, code := towline(t, d.Host, "jobs", "cancel", job.ID); code != 1 || !strings.Contains(stderr, "already ended") {
		t.Errorf("cancel of an ended job: exit code %d: %s", code, stderr)
	}
}
