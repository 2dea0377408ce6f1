package compose_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

// write writes files to a new directory and changes to it.
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
	for _, name := range []string{
		"COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_ENV_FILES", "COMPOSE_DISABLE_ENV_FILE",
		"DOCKER_DEFAULT_PLATFORM", "TAG", "B",
	} {
		if value, ok := os.LookupEnv(name); ok {
			t.Cleanup(func() { os.Setenv(name, value) })
			os.Unsetenv(name)
		}
	}
	return dir
}

func load(t *testing.T, paths, profiles []string, want string) puller.PrewarmRequest {
	t.Helper()
	r, err := compose.Load(t.Context(), compose.Source{Files: paths, Profiles: profiles})
	if err != nil {
		t.Fatal(err)
	}
	if got := asked(r.PrewarmRequest); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	return r.PrewarmRequest
}

func TestLoadFiles(t *testing.T) {
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
	t.Chdir("p/inc") // the default files are also searched in the parents
	load(t, nil, nil, "debug:latest, base:1 newer, inc:5, web:fromprocess linux/arm64, -b")
	t.Setenv("COMPOSE_FILE", "../base.yaml")
	load(t, nil, nil, "base:1 newer")
}

func TestLoadStdin(t *testing.T) {
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

// Each row is what docker compose config --images answers for the same, in another
// order.
func TestLoadEnv(t *testing.T) {
	for _, c := range []struct {
		name   string
		env    map[string]string
		source compose.Source
		want   string
	}{
		{"nothing", nil, compose.Source{}, "a:dotenv, b:none, towline-test/n:latest"},
		{"env files", nil, compose.Source{EnvFiles: []string{"one.env"}}, "a:one, b:one, towline-test/n:latest"},
		{"several env files", nil, compose.Source{EnvFiles: []string{"one.env", "two.env"}}, "a:one, b:two, towline-test/n:latest"},
		{"COMPOSE_ENV_FILES", map[string]string{"COMPOSE_ENV_FILES": "one.env,two.env"}, compose.Source{}, "a:one, b:two, towline-test/n:latest"},
		{"COMPOSE_ENV_FILES with nothing in it", map[string]string{"COMPOSE_ENV_FILES": ","}, compose.Source{}, "a:dotenv, b:none, towline-test/n:latest"},
		{"env files before COMPOSE_ENV_FILES", map[string]string{"COMPOSE_ENV_FILES": "one.env"}, compose.Source{EnvFiles: []string{"two.env"}}, "a:none, b:two, towline-test/n:latest"},
		{"the process before env files", map[string]string{"TAG": "process"}, compose.Source{EnvFiles: []string{"one.env"}}, "a:process, b:one, towline-test/n:latest"},
		{"env files without .env", map[string]string{"COMPOSE_DISABLE_ENV_FILE": "1"}, compose.Source{EnvFiles: []string{"two.env"}}, "a:none, b:two, towline-test/n:latest"},
		{"no .env", map[string]string{"COMPOSE_DISABLE_ENV_FILE": "1"}, compose.Source{}, "a:none, b:none, towline-test/n:latest"},
		{"an env file that names the files", nil, compose.Source{EnvFiles: []string{"file.env"}}, "c:latest"},
		{"files before those of an env file", nil, compose.Source{Files: []string{"compose.yaml"}, EnvFiles: []string{"file.env"}}, "a:none, b:none, towline-test/n:latest, p:latest"},
		{"COMPOSE_FILE", map[string]string{"COMPOSE_FILE": "compose.yaml" + string(os.PathListSeparator) + "other.yaml"}, compose.Source{}, "a:dotenv, b:none, c:latest, towline-test/n:latest"},
		{"COMPOSE_PATH_SEPARATOR", map[string]string{"COMPOSE_FILE": "compose.yaml,other.yaml", "COMPOSE_PATH_SEPARATOR": ","}, compose.Source{}, "a:dotenv, b:none, c:latest, towline-test/n:latest"},
		{"COMPOSE_PROFILES", map[string]string{"COMPOSE_PROFILES": "x, p"}, compose.Source{}, "a:dotenv, b:none, towline-test/n:latest, p:latest"},
		{"profiles before COMPOSE_PROFILES", map[string]string{"COMPOSE_PROFILES": "p"}, compose.Source{Profiles: []string{"x"}}, "a:dotenv, b:none, towline-test/n:latest"},
		{"all profiles", nil, compose.Source{Profiles: []string{"*"}}, "a:dotenv, b:none, towline-test/n:latest, p:latest"},
		{"a name", nil, compose.Source{Name: "mine"}, "a:dotenv, b:none, mine/n:latest"},
		{"COMPOSE_PROJECT_NAME", map[string]string{"COMPOSE_PROJECT_NAME": "yours"}, compose.Source{}, "a:dotenv, b:none, yours/n:latest"},
		{"a name before COMPOSE_PROJECT_NAME", map[string]string{"COMPOSE_PROJECT_NAME": "yours"}, compose.Source{Name: "mine"}, "a:dotenv, b:none, mine/n:latest"},
		{"a directory", nil, compose.Source{Files: []string{"other.yaml", "compose.yaml"}, Directory: "elsewhere"}, "a:elsewhere, b:none, c:latest, towline-test/n:latest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, map[string]string{
				"compose.yaml": "name: towline-test\nservices:\n  a: {image: 'a:${TAG:-none}'}\n  b: {image: 'b:${B:-none}'}\n  n: {image: '${COMPOSE_PROJECT_NAME}/n'}\n  p: {image: p, profiles: [p]}\n",
				"other.yaml":   "services:\n  c: {image: c}\n", ".env": "TAG=dotenv\n", "one.env": "TAG=one\nB=one\n", "two.env": "B=two\n",
				"file.env": "COMPOSE_FILE=other.yaml\nCOMPOSE_PROFILES=p\n", "elsewhere/.env": "TAG=elsewhere\n",
			})
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			r, err := compose.Load(t.Context(), c.source)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(asked(r.PrewarmRequest), "docker.io/", ""); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestLoadWarnings(t *testing.T) {
	write(t, map[string]string{"compose.yaml": "services:\n  a: {image: '${PREFIX}a', environment: {X: '${Y:-}', Z: '${B?}'}}\n", ".env": "B=\n"})
	var out bytes.Buffer
	logrus.SetOutput(&out)
	defer logrus.SetOutput(os.Stderr)
	load(t, []string{"compose.yaml"}, nil, "a:latest")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "PREFIX") || !strings.Contains(got, "variable is not set") {
		t.Errorf("%s", got)
	}
}

func TestLoadPlatforms(t *testing.T) {
	write(t, map[string]string{"compose.yaml": "services:\n  a: {image: a, platform: Linux/x86_64}\n  b: {image: b, platform: arm64}\n  c: {image: c}\n", ".env": "DOCKER_DEFAULT_PLATFORM=linux/aarch64\n"})
	if r := load(t, nil, nil, "a:latest linux/amd64, b:latest arm64, c:latest"); r.Platform != "linux/arm64" {
		t.Errorf("the default platform is %s", r.Platform)
	}
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "amd64")
	if r := load(t, nil, nil, "a:latest linux/amd64, b:latest arm64, c:latest"); r.Platform != "amd64" {
		t.Errorf("the default platform is %s", r.Platform)
	}
}

func TestLoadErrors(t *testing.T) {
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
		{"no services", "services: {}\n", []string{"compose.yaml", "services: there are none"}},
		{"only inactive ones", "services:\n  a: {image: a, profiles: [x]}\n", []string{"profiles"}},
		{"a remote include", "include: ['oci://ghcr.io/a/b:1']\nservices: {a: {image: a}}\n", []string{"oci://ghcr.io/a/b:1", "remote file", "docker compose config"}},
		{"a remote include in Git", "include: [{path: 'https://github.com/a/b.git#main:c.yaml'}]\nservices: {a: {image: a}}\n", []string{"https://github.com/a/b.git", "remote file"}},
		{"a remote extends", "services: {a: {extends: {file: 'git@github.com:a/b.git', service: x}}}\n", []string{"git@github.com:a/b.git", "remote file"}},
		{"a bad platform and others", "services:\n  a: {image: a, platform: toaster}\n  b: {image: 'b:${TAG}'}\n  c: {image: UPPER, platform: linux/vax}\n",
			[]string{"services.a.platform", "toaster", "services.b.image", "TAG", "services.c.image", "UPPER", "services.c.platform", "linux/vax"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, map[string]string{"compose.yaml": c.file})
			_, err := compose.Load(t.Context(), compose.Source{Files: []string{"compose.yaml"}})
			if puller.KindOf(err) != puller.ErrInvalidRequest {
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
	write(t, map[string]string{"compose.yaml": "services: {a: {image: a}}"})
	for _, files := range [][]string{{"none.env"}, {"compose.yaml", "none.env"}} {
		if _, err := compose.Load(t.Context(), compose.Source{EnvFiles: files}); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), ".env") && !strings.Contains(err.Error(), "compose.yaml") {
			t.Errorf("%q: %v", files, err)
		}
	}
	t.Setenv("COMPOSE_ENV_FILES", "none.env")
	if _, err := compose.Load(t.Context(), compose.Source{}); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "none.env") {
		t.Error(err)
	}
	t.Setenv("COMPOSE_ENV_FILES", "")
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "toaster")
	if _, err := compose.Load(t.Context(), compose.Source{}); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "DOCKER_DEFAULT_PLATFORM: \"toaster\"") {
		t.Error(err)
	}
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "")
	if _, err := compose.Load(t.Context(), compose.Source{Name: "Not A Name"}); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "Not A Name") {
		t.Error(err)
	}
	if _, err := compose.Load(t.Context(), compose.Source{Files: []string{"oci://ghcr.io/a/b"}}); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "remote file") {
		t.Error(err)
	}
	write(t, nil)
	if _, err := compose.Load(t.Context(), compose.Source{Files: []string{"none.yaml"}}); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
}

// One fault does not hide another, and each has its file and line.
func TestLoadFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"of images", map[string]string{
			"compose.yaml": "services:\n  a: {image: scratch}\n  b:\n    image: x\n    platform: linux/amd64\n  c: {image: '${NOPE}'}\n  d: {build: .}\n",
			"ci.yaml":      "services:\n  b:\n    platform: bogus\n",
		}, []string{"compose.yaml: line 2: services.a.image: ", `ci.yaml: line 3: services.b.platform: "bogus"`, "compose.yaml: line 6: services.c: "}},
		{"of fields and images", map[string]string{
			"compose.yaml": "services:\n  a: {image: a, imge: x, cgroup: '${CGROUP:-host}'}\n  b: {image: UPPER, pull_policy: often}\n  c: {image: c, build: {contxt: .}}\n",
			"ci.yaml":      "services:\n  a: {plaform: x}\nvolums: {}\n",
		}, []string{
			"compose.yaml: line 2: services.a.imge: ", "compose.yaml: line 4: services.c.build.contxt: ", "ci.yaml: line 2: services.a.plaform: ", "ci.yaml: line 3: volums: ",
			"compose.yaml: line 3: services.b.image: ", `compose.yaml: line 3: services.b.pull_policy: "often" is not known`,
		}},
		{"of form", map[string]string{
			"compose.yaml": "services:\n  a: {image: [a], imge: x}\n  b: {image: b, pull_policy: often}\n",
			"ci.yaml":      "services:\n  a: {ports: {a: b}}\n",
		}, []string{"compose.yaml: line 2: services.a.image must be a string", "compose.yaml: line 2: services.a.imge: ", "ci.yaml: line 2: services.a.ports must be a array", "compose.yaml: line 3: services.b.pull_policy "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, c.files)
			_, err := compose.Load(t.Context(), compose.Source{Files: []string{"compose.yaml", "ci.yaml"}})
			var all compose.Faults
			if puller.KindOf(err) != puller.ErrInvalidRequest || !errors.As(err, &all) {
				t.Fatal(err)
			}
			if len(all) != len(c.want) {
				t.Errorf("%d faults, want %d: %v", len(all), len(c.want), err)
			}
			for i, want := range c.want {
				if i < len(all) && !strings.HasPrefix(all[i].Error(), want) {
					t.Errorf("fault %d is %q, want %q", i, all[i], want)
				}
			}
		})
	}
}
