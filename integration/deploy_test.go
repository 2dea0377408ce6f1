package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/integration/lab"
)

// fromYAML reads a file of configs.
func fromYAML(t *testing.T, name string, v any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "configs", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// composeFlags returns how configs/compose.yaml shuts Towline in, as docker run
// takes it, and what it asks for Towline's health. group is that of the engine's
// socket.
func composeFlags(t *testing.T, group string) (flags, health []string) {
	t.Helper()
	var file struct {
		Services map[string]struct {
			User        string
			ReadOnly    bool     `yaml:"read_only"`
			Privileged  bool     `yaml:"privileged"`
			CapDrop     []string `yaml:"cap_drop"`
			SecurityOpt []string `yaml:"security_opt"`
			GroupAdd    []string `yaml:"group_add"`
			Tmpfs       []string
			Volumes     []string
			Healthcheck struct{ Test []string }
		}
	}
	fromYAML(t, "compose.yaml", &file)
	s, ok := file.Services["towline"]
	if !ok || !s.ReadOnly || s.Privileged || len(s.GroupAdd) != 1 || !strings.HasPrefix(s.GroupAdd[0], "${DOCKER_GID:?") || len(s.Volumes) != 3 {
		t.Fatalf("configs/compose.yaml: %+v", s)
	}
	flags = []string{"--read-only", "--user", s.User, "--group-add", group}
	for flag, values := range map[string][]string{"--cap-drop": s.CapDrop, "--security-opt": s.SecurityOpt, "--tmpfs": s.Tmpfs} {
		for _, v := range values {
			flags = append(flags, flag, v)
		}
	}
	return flags, s.Healthcheck.Test
}

// The prewarm steps of the CI templates, run as a runner does, against a daemon
// that asks for a token: they pass when the images are there, and fail with the
// reason when one can't be had.
func TestCITemplatesPrewarm(t *testing.T) {
	good, _ := push(t, "ci", 1, 1<<20)
	tokens := filepath.Join(t.TempDir(), "tokens.yaml")
	token, says, code := towline(t, "", "token", "new", "ci", "--scope", "read,pull", "--file", tokens)
	if token = strings.TrimSpace(token); code != 0 || token == "" {
		t.Fatal(code, says)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	daemonWith(t, lab.TowlineOptions{
		EngineHost: site.engine.Host, Listen: []string{"tcp://" + address}, Config: "auth: {token_file: " + tokens + "}\n",
	})
	bin := t.TempDir()
	if err := os.Symlink(site.bin, filepath.Join(bin, "towline")); err != nil {
		t.Fatal(err)
	}
	_, err = exec.LookPath("curl")
	lab.Need(t, err)

	var github struct {
		Jobs map[string]struct{ Steps []struct{ Name, Run string } }
	}
	fromYAML(t, "ci/github-actions.yaml", &github)
	scripts := make(map[string]string)
	for _, step := range github.Jobs["test"].Steps {
		scripts["GitHub: "+step.Name] = step.Run
	}
	var gitlab map[string]any
	fromYAML(t, "ci/gitlab-ci.yaml", &gitlab)
	for name, job := range gitlab {
		if job, ok := job.(map[string]any); ok {
			for _, line := range job["script"].([]any) {
				scripts["GitLab: "+name] += line.(string) + "\n"
			}
		}
	}
	var buildkite struct{ Steps []any }
	fromYAML(t, "ci/buildkite.yaml", &buildkite)
	for _, step := range buildkite.Steps {
		if step, ok := step.(map[string]any); ok {
			scripts["Buildkite: "+step["label"].(string)] = step["command"].(string)
		}
	}
	var woodpecker struct {
		Steps []struct {
			Name     string
			Commands []string
		}
	}
	fromYAML(t, "ci/woodpecker.yaml", &woodpecker)
	for _, step := range woodpecker.Steps {
		scripts["Woodpecker: "+step.Name] = strings.Join(step.Commands, "\n")
	}
	var action struct {
		Runs struct{ Steps []struct{ Name, Run string } }
	}
	fromYAML(t, "ci/action/action.yml", &action)
	for _, step := range action.Runs.Steps {
		scripts["Action: "+step.Name] = step.Run
	}
	jenkins, err := os.ReadFile("../configs/ci/Jenkinsfile")
	if err != nil {
		t.Fatal(err)
	}
	for i, found := range regexp.MustCompile(`(?m)^ +sh '(.*prewarm.*)'$`).FindAllSubmatch(jenkins, -1) {
		scripts[fmt.Sprint("Jenkins: prewarm ", i)] = string(found[1])
	}
	shell, err := os.ReadFile("../configs/ci/prewarm.sh")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for name, script := range scripts {
		if !strings.Contains(strings.ToLower(name), ": prewarm") {
			continue
		}
		tried++
		for image, fails := range map[string]bool{good: false, site.registry.Ref("nowhere", "v1"): true} {
			host := "http://" + address
			if !fails && !strings.Contains(script, "curl") {
				host = "tcp://" + address // as the command line takes it
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("services: {a: {image: '"+image+"'}}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "prewarm.sh"), shell, 0o700); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "TOWLINE_HOST=" + host, "TOWLINE_TOKEN=" + token, "GITHUB_ACTION_PATH=" + dir, "TOWLINE_FILE=compose.yaml"}
			err := cmd.Run()
			if fails != (err != nil) || !strings.Contains(said.String(), image) || fails && !strings.Contains(said.String(), "not_found") || strings.Contains(said.String(), token) {
				t.Errorf("%s with %s: %v\n%s", name, image, err, said.String())
			}
		}
	}
	if tried != 8 {
		t.Errorf("of the templates, %d ways to prewarm were found", tried)
	}
}
