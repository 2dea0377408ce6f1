package integration_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/integration/lab"
)

// Docker's own command line takes the binary as a plugin.
func TestDockerPlugin(t *testing.T) {
	cli := dockerCLI(t)
	config := cli("unix:///nowhere").Args[2] // of --config
	plugins := filepath.Join(config, "cli-plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs(site.bin)
	lab.Need(t, err)
	if err := os.Symlink(bin, filepath.Join(plugins, "docker-towline")); err != nil {
		t.Fatal(err)
	}
	image, digest := push(t, "plugin", 1, 1<<10)
	d, _ := daemon(t)
	t.Setenv("TOWLINE_HOST", d.Host)
	const completes = "__complete towline prew"
	version, _, _ := strings.Cut(runDocker(t, cli("unix:///nowhere", "--version")).stdout, ".")
	major, err := strconv.Atoi(strings.TrimPrefix(version, "Docker version "))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, stdout, stderr string
		code                 int
	}{
		{"towline --version", "towline ", "", 0},
		{"towline pull -q " + image, "@" + digest + "\n", "", 0},
		{"towline pull -q --policy never " + site.registry.Ref("nope", "v1"), "", "not_found", 3},
		{"towline nope", "", `unknown command "nope" for "docker towline"`, 2},
		{"help towline", "Usage:\n  docker towline", "", 0},
		{"towline prewarm --help", "Usage:\n  docker towline prewarm", "", 0},
		{"towline pull --help", "\n  docker towline pull alpine:3.20\n", "", 0},
		{"--help", "towline*", "", 0},
		{completes, "prewarm\t", "", 0},
	} {
		t.Run(c.args, func(t *testing.T) {
			cmd := cli("unix:///nowhere", strings.Fields(c.args)...)
			if c.args == completes && major < 23 {
				// It asks no plugin for completions. Later ones call it with these arguments.
				cmd.Path = filepath.Join(plugins, "docker-towline")
				cmd.Args[0] = cmd.Path
			}
			got := runDocker(t, cmd)
			if got.code != c.code || !strings.Contains(got.stdout, c.stdout) || !strings.Contains(got.stderr, c.stderr) {
				t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}
