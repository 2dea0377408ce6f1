package compose_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

// write puts files into a new directory and goes there.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, name := range []string{"COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_DISABLE_ENV_FILE", "DOCKER_DEFAULT_PLATFORM", "TAG"} {
		if value, ok := os.LookupEnv(name); ok {
			t.Cleanup(func() { os.Setenv(name, value) })
			os.Unsetenv(name)
		}
	}
	return dir
}

func load(t *testing.T, paths, profiles []string, want string) puller.PrewarmRequest {
	t.Helper()
	r, err := compose.Load(t.Context(), paths, profiles)
	if err != nil {
		t.Fatal(err)
	}
	if got := asked(r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	return r
}

func TestLoadReadsWhatDockerComposeReads(t *testing.T) {
	write(t, map[string]string{
		"p/compose.yaml":          "include: [inc/inc.yaml]\nservices:\n  web: {image: 'web:${TAG}', env_file: [missing.env]}\n  ext: {extends: {file: base.yaml, service: base}}\n  debug: {image: debug, profiles: [debug]}\n  b: {build: .}\n",
		"p/compose.override.yaml": "services:\n  web: {platform: linux/arm64}\n",
		"p/other.yaml":            "services:\n  web: {pull_policy: if_not_present, image: !override other}\n",
		"p/inc/inc.yaml":          "services:\n  inc: {image: 'inc:${INC}'}\n",
		"p/inc/.env":              "INC=5\n",
		"p/base.yaml":             "services:\n  base: {image: base:1, pull_policy: daily}\n",
		"p/.env":                  "TAG=fromfile\n",
	})
	load(t, []string{"p/compose.yaml"}, nil, "base:1 newer, inc:5, web:fromfile, -b")
	load(t, []string{"p/compose.yaml", "p/other.yaml"}, []string{"debug"}, "debug:latest, base:1 newer, inc:5, other:latest missing, -b")
	t.Setenv("TAG", "fromprocess")
	t.Setenv("COMPOSE_PROFILES", "debug")
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "linux/amd64")
	r := load(t, []string{"p/compose.yaml"}, nil, "debug:latest, base:1 newer, inc:5, web:fromprocess, -b")
	if r.Platform != "linux/amd64" {
		t.Errorf("platform %q", r.Platform)
	}
	t.Chdir("p/inc") // the default files are looked for above, too
	load(t, nil, nil, "debug:latest, base:1 newer, inc:5, web:fromprocess linux/arm64, -b")
	t.Setenv("COMPOSE_FILE", "../base.yaml")
	load(t, nil, nil, "base:1 newer")
}

func TestLoadReadsTheStandardInput(t *testing.T) {
	dir := write(t, map[string]string{"in": "services:\n  a: {image: a}\n"})
	in, err := os.Open(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	old := os.Stdin
	defer func() { os.Stdin = old }()
	os.Stdin = in
	load(t, []string{"-"}, nil, "a:latest")
}

func TestLoadTakesWhatComposeOnlyWarnsOf(t *testing.T) {
	write(t, map[string]string{"compose.yaml": "services:\n  a: {image: '${PREFIX}a', environment: {X: '${Y}'}}\n"})
	load(t, []string{"compose.yaml"}, nil, "a:latest")
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"no value", "services:\n  web: {image: 'nginx:${TAG}'}\n", []string{"services.web.image", "TAG"}},
		{"no required value", "services:\n  web: {image: 'nginx:${TAG:?name a release}'}\n", []string{"services.web.image", "TAG", "name a release"}},
		{"a bad reference", "services:\n  web: {image: 'a/UPPER'}\n", []string{"services.web.image", "a/UPPER"}},
		{"an unknown key", "services:\n  web: {image: a, imagee: b}\n", []string{"compose.yaml", "services.web", "imagee"}},
		{"no YAML", "services: {", []string{"compose.yaml", "line 1"}},
		{"a file that is not there", "include: [nothere.yaml]", []string{"nothere.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, map[string]string{"compose.yaml": c.file})
			_, err := compose.Load(t.Context(), []string{"compose.yaml"}, nil)
			if puller.KindOf(err) != puller.InvalidRequest {
				t.Fatalf("%s: %v", puller.KindOf(err), err)
			}
			t.Log(err)
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in it", want)
				}
			}
		})
	}
	write(t, nil)
	if _, err := compose.Load(t.Context(), []string{"none.yaml"}, nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
}
