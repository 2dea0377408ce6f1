package compose_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

// asked is what a request asks for, in one line.
func asked(r puller.PrewarmRequest) string {
	var all []string
	for _, i := range r.Images {
		s := i.Image
		if i.Platform != "" {
			s += " " + i.Platform
		}
		if i.Policy != "" {
			s += " " + string(i.Policy)
		}
		all = append(all, s)
	}
	for _, s := range r.Skipped {
		all = append(all, "-"+s.Service)
	}
	return strings.ReplaceAll(strings.Join(all, ", "), "docker.io/library/", "")
}

func TestParseImages(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"in the order of the file", "services:\n  web: {image: nginx}\n  db: {image: postgres:16}\n  app: {image: redis}\n", "nginx:latest, postgres:16, redis:latest"},
		{"each once", "services:\n  a: {image: nginx}\n  b: {image: nginx:latest}\n  c: {image: docker.io/library/nginx}\n", "nginx:latest"},
		{"but in each way", "services:\n  a: {image: nginx, platform: linux/arm64}\n  b: {image: nginx}\n  c: {image: nginx, pull_policy: always}\n", "nginx:latest linux/arm64, nginx:latest, nginx:latest always"},
		{"the policies", "services:\n  a: {image: a, pull_policy: always}\n  b: {image: b, pull_policy: never}\n  c: {image: c, pull_policy: missing}\n  d: {image: d, pull_policy: if_not_present}\n  e: {image: e, pull_policy: daily}\n  f: {image: f, pull_policy: weekly}\n  g: {image: g, pull_policy: every_12h}\n  h: {image: h, pull_policy: refresh}\n  i: {image: i, pull_policy: build, build: .}\n",
			"a:latest always, b:latest never, c:latest missing, d:latest missing, e:latest newer, f:latest newer, g:latest newer, h:latest newer, -i"},
		{"what is built", "services:\n  a: {build: .}\n  b: {build: {context: ./b}, image: mine/b}\n  c: {build: ., image: mine/c, pull_policy: missing}\n  d: {build: ., image: mine/d, pull_policy: never}\n", "docker.io/mine/c:latest missing, -a, -b, -d"},
		{"what another one builds", "services:\n  worker: {image: app:1}\n  web: {build: ., image: app:1}\n  db: {image: postgres}\n", "postgres:latest, -worker, -web"},
		{"a provider", "services:\n  db: {provider: {type: awesomecloud, options: {size: 256}}}\n  web: {image: nginx}\n", "nginx:latest, -db"},
		{"image volumes", "services:\n  web:\n    image: nginx\n    volumes:\n      - ./src:/src\n      - {type: bind, source: /etc, target: /e}\n      - {type: image, source: data:2, target: /data}\n", "nginx:latest, data:2"},
		{"pre_start hooks", "services:\n  web:\n    image: nginx\n    platform: linux/amd64\n    pre_start:\n      - {image: migrate:1, command: up}\n      - {command: x}\n", "nginx:latest linux/amd64, migrate:1 linux/amd64"},
		{"extends in the file", "services:\n  base: {image: nginx:1, platform: linux/arm64}\n  web: {extends: {service: base}}\n  api: {extends: base, image: api:1}\n", "nginx:1 linux/arm64, api:1 linux/arm64"},
		{"anchors and merges", "x-base: &base\n  image: nginx:1\n  pull_policy: always\nservices:\n  a: *base\n  b: {<<: *base, image: b:1}\n  c: {<<: [*base, {platform: linux/amd64}]}\n", "nginx:1 always, b:1 always, nginx:1 linux/amd64 always"},
		{"several documents", "services:\n  a: {image: a:1}\n  b: {image: b:1}\n---\nservices:\n  a: {image: a:2}\n", "a:2, b:1"},
		{"models and jobs", "models:\n  ai: {model: ai/smollm2}\nservices:\n  a: {image: a, models: [ai]}\n", "a:latest"},
		{"old files", "version: '3.8'\nservices:\n  a: {image: a}\nnetworks:\n  n: {external: {name: other}}\n", "a:latest"},
		{"a policy left open", "services:\n  a: {image: a, pull_policy: '${P}'}\n", "a:latest"},
		{"a digest", "services:\n  a: {image: 'a:1@sha256:" + strings.Repeat("a", 64) + "'}\n", "a:1@sha256:" + strings.Repeat("a", 64)},
		{"a BOM and CRLF", "\ufeffservices:\r\n  a:\r\n    image: a\r\n", "a:latest"},
		{"a name with a dot", "services:\n  a.b: {image: a}\n", "a:latest"},
		{"platforms as engines take them", "services:\n  a: {image: a, platform: LINUX/x86_64}\n  b: {image: a, platform: linux/amd64}\n  c: {image: a, platform: arm64}\n", "a:latest linux/amd64, a:latest arm64"},
		{"a dependency", "services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b}\n", "a:latest, b:latest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := compose.Parse(t.Context(), []byte(c.file), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := asked(r); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for _, s := range r.Skipped {
				if s.Reason == "" {
					t.Errorf("%s is skipped without a reason", s.Service)
				}
			}
		})
	}
}

func TestParseProfiles(t *testing.T) {
	file := []byte("services:\n  a: {image: a}\n  b: {image: b, profiles: [debug]}\n  c: {image: c, profiles: ['${P:-test}', other]}\n  d: {image: '${NONE}', profiles: [never]}\n")
	for _, c := range []struct {
		profiles []string
		want     string
	}{
		{nil, "a:latest"},
		{[]string{"debug"}, "a:latest, b:latest"},
		{[]string{"test", "debug"}, "a:latest, b:latest, c:latest"},
	} {
		r, err := compose.Parse(t.Context(), file, nil, c.profiles)
		if err != nil {
			t.Fatal(err)
		}
		if got := asked(r); got != c.want {
			t.Errorf("%q: %s, not %s", c.profiles, got, c.want)
		}
	}
	if r, err := compose.Parse(t.Context(), file, map[string]string{"NONE": "d"}, []string{"*"}); err != nil || len(r.Images) != 4 {
		t.Errorf("*: %s, %v", asked(r), err)
	}
}

func TestParseVariables(t *testing.T) {
	const file = `services:
  a:
    image: ${REGISTRY:-ghcr.io}/a:${TAG}
    platform: ${PLATFORM}
    pull_policy: ${POLICY:-missing}
    ports: ["${PORT}:80", "${HOST:?}:${OTHER:?not here}:80"]
    environment: {PASSWORD: "${PASSWORD:?}", BAD: "${"}
    cpus: ${CPUS}
    mem_limit: ${MEM}
    deploy: {replicas: "${N}"}
`
	r, err := compose.Parse(t.Context(), []byte(file), map[string]string{"TAG": "7"}, nil)
	if got := asked(r); err != nil || got != "ghcr.io/a:7 missing" {
		t.Errorf("%s, %v", got, err)
	}
	r, err = compose.Parse(t.Context(), []byte(file), map[string]string{"TAG": "7", "REGISTRY": "", "PLATFORM": "linux/arm64", "POLICY": "always"}, nil)
	if got := asked(r); err != nil || got != "ghcr.io/a:7 linux/arm64 always" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"empty", "", []string{"empty"}},
		{"a comment", "# nothing\n", []string{"empty"}},
		{"only dashes", "---\n---\n", []string{"empty"}},
		{"a list", "- a\n- b\n", []string{"line 1", "mapping"}},
		{"a number key", "1: 2\n", []string{"1"}},
		{"no services", "name: x\n", []string{"services"}},
		{"services that are none", "name: x\nservices: {}\n", []string{"line 2", "services: there are none"}},
		{"null services", "services:\n", []string{"services"}},
		{"bad platforms and others", "services:\n  a: {image: a, platform: toaster}\n  b: {image: 'b:${TAG}'}\n  c: {image: UPPER, platform: 'linux/${ARCH:-vax}'}\n  d:\n    image: d\n    pull_policy: often\n",
			[]string{"line 2: services.a.platform", "toaster", "line 3: services.b.image", "TAG", "line 4: services.c.image", "UPPER", "line 4: services.c.platform", "linux/vax", "line 7: services.d.pull_policy"}},
		{"a bad policy and a wrong type", "services:\n  a: {image: a, pull_policy: often}\n  b: {image: [1]}\n", []string{"line 2: services.a.pull_policy", "line 3: services.b.image"}},
		{"a remote include", "include: ['oci://ghcr.io/a/b:1']\nservices:\n  a: {image: a}\n", []string{"line 1", "remote file", "docker compose config"}},
		{"a null service", "services:\n  a:\n", []string{"line 2", "services.a"}},
		{"a tab", "services:\n\ta: {image: a}\n", []string{"line 2"}},
		{"cut off", "services:\n  a: {image: a\n", []string{"line 2"}},
		{"cut off in a string", "services:\n  a:\n    image: \"ngi", []string{"line 3"}},
		{"two values", "services:\n  a:\n    image: a: b\n", []string{"line 3"}},
		{"a key twice", "services:\n  a:\n    image: a\n    image: b\n", []string{"line 4", "image"}},
		{"a service twice", "services:\n  a: {image: a}\n  a: {image: b}\n", []string{"line 3", "a"}},
		{"not UTF-8", "services:\n  a: {image: \"\xff\"}\n", []string{"line 2", "UTF-8"}},
		{"a NUL", "services:\n  a: {image: \"a\x00\"}\n", []string{"line 2", "U+0000"}},
		{"an unknown key", "services:\n  a:\n    image: a\n    imagee: b\n", []string{"line 4", "services.a", "imagee"}},
		{"an unknown key at the top", "services:\n  a: {image: a}\nservice: {}\n", []string{"line 3", "service"}},
		{"a wrong type", "services:\n  a:\n    image: [a]\n", []string{"line 3", "services.a.image", "string"}},
		{"a number for an image", "services:\n  a:\n    image: 12\n", []string{"line 3", "services.a.image"}},
		{"a service that is a string", "services:\n  web: nginx\n", []string{"line 2", "services.web"}},
		{"a policy that is none", "services:\n  a:\n    image: a\n    pull_policy: often\n", []string{"line 4", "services.a.pull_policy"}},
		{"a bad reference", "services:\n  web:\n    image: a/UPPER\n", []string{"line 3", "services.web.image", "a/UPPER"}},
		{"a long reference", "services:\n  web:\n    image: " + strings.Repeat("a", 2000) + "\n", []string{"line 3", "services.web.image"}},
		{"a bad reference by a merge", "x-b: &b\n  image: UPPER\nservices:\n  web:\n    <<: *b\n", []string{"line 2", "services.web.image", "UPPER"}},
		{"neither image nor build", "services:\n  web:\n    command: x\n", []string{"line 2", "services.web", "neither"}},
		{"no value", "services:\n  web:\n    image: nginx:${TAG}\n", []string{"line 3", "services.web.image", "TAG", "${TAG:-"}},
		{"no value, yet a reference", "services:\n  web:\n    image: ${PREFIX}nginx\n", []string{"line 3", "services.web.image", "PREFIX"}},
		{"no required value", "services:\n  web:\n    image: nginx:${TAG:?name a release}\n", []string{"line 3", "services.web.image", "TAG", "name a release"}},
		{"an open brace", "services:\n  web:\n    image: nginx:${TAG\n", []string{"line 3", "services.web.image", "TAG"}},
		{"include", "include:\n  - other.yaml\nservices:\n  a: {image: a}\n", []string{"line 1", "include", "other.yaml", "towline prewarm -f"}},
		{"include with a path", "services:\n  a: {image: a}\ninclude:\n  - path: [/etc/passwd]\n", []string{"line 3", "/etc/passwd", "towline prewarm -f"}},
		{"extends with a file", "services:\n  a:\n    extends:\n      file: /etc/passwd\n      service: b\n", []string{"line 3", "services.a.extends", "/etc/passwd", "towline prewarm -f"}},
		{"extends with a remote file", "services:\n  a:\n    extends: {file: 'oci://ghcr.io/a/b', service: b}\n", []string{"line 3", "oci://", "remote file"}},
		{"extends a stranger", "services:\n  a:\n    extends: b\n", []string{"line 3", "services.a.extends", "\"b\""}},
		{"extends itself", "services:\n  a:\n    extends: b\n  b:\n    extends: a\n", []string{"line ", "extends itself"}},
		{"extends one in a circle", "services:\n  a:\n    extends: b\n  b:\n    extends: b\n", []string{"line ", "extends"}},
		{"!reset", "services:\n  a:\n    image: a\n    build: !reset null\n", []string{"line 4", "!reset"}},
		{"only inactive ones", "services:\n  a: {image: a, profiles: [x]}\n", []string{"profiles"}},
		{"an alias in itself", "services:\n  a: &a\n    image: a\n    <<: *a\n", []string{"line 4", "*a", "part of what it stands for"}},
		{"infinity", "services:\n  a:\n    image: a\n    cpus: .inf\n", []string{"line 4", ".inf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := compose.Parse(t.Context(), []byte(c.file), nil, nil)
			if err == nil {
				t.Fatalf("taken: %s", asked(r))
			}
			t.Log(err)
			if puller.KindOf(err) != puller.ErrInvalidRequest {
				t.Errorf("kind %s", puller.KindOf(err))
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in it", want)
				}
			}
		})
	}
}

// canary returns a directory of files that would change the result if they were read.
func canary(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		".env":         "TAG=fromdotenv\nCOMPOSE_PROFILES=debug\n",
		"other.yaml":   "services:\n  other: {image: stolen}\n",
		"compose.yaml": "services:\n  other: {image: stolen}\n",
		"body":         "services:\n  other: {image: stolen}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestParseIsolation(t *testing.T) {
	t.Chdir(canary(t))
	t.Setenv("TAG", "fromprocess")
	t.Setenv("COMPOSE_PROFILES", "debug")
	t.Setenv("COMPOSE_FILE", "other.yaml")
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "linux/s390x")
	r, err := compose.Parse(t.Context(), []byte(`
services:
  a:
    image: a:${TAG:-own}
    env_file: [.env, /does/not/exist]
    label_file: /does/not/exist
    secrets: [s]
    configs: [c]
    volumes: ["~/x:/x", "/does/not/exist:/y", "v:/v"]
    build: {context: /does/not/exist, pull: true}
    pull_policy: always
  b: {image: b, profiles: [debug]}
secrets: {s: {file: /does/not/exist}, e: {environment: TAG}}
configs: {c: {file: /does/not/exist}}
volumes: {v: }
`), nil, nil)
	if got := asked(r); err != nil || got != "a:own always" || r.Platform != "" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := compose.Parse(t.Context(), []byte("services: {a: {image: 'a:${TAG}'}}"), nil, nil); err == nil {
		t.Error("a variable came from somewhere")
	}
	for _, file := range []string{
		"services: {a: {extends: {file: other.yaml, service: other}}}",
		"x-e: &e {file: other.yaml, service: other}\nservices: {a: {extends: *e}}",
		"x-e: &e {extends: {file: other.yaml, service: other}}\nservices: {a: {<<: *e}}",
		"include: [other.yaml]",
		"include: {path: other.yaml}",
		"include: other.yaml",
		"services: {a: {image: a}}\n---\ninclude: [{path: other.yaml, env_file: .env}]",
	} {
		if r, err := compose.Parse(t.Context(), []byte(file), nil, []string{"*"}); err == nil || strings.Contains(asked(r), "stolen") {
			t.Errorf("%s: %s, %v", file, asked(r), err)
		}
	}
}

func TestParseLogsNothing(t *testing.T) {
	var out bytes.Buffer
	logrus.SetOutput(&out)
	defer logrus.SetOutput(os.Stderr)
	for i, file := range []string{
		fmt.Sprintf("version: '3'\nname: n%s\nservices: {a: {image: a}}", t.Name()),
		"services: {a: {image: 'a:${X}${Y:-${Z}}', privileged: 'yes', tty: '${T:-on}'}}",
		"services: {a: {image: a}}\nvolumes: {v: {external: {name: w}}}\nnetworks: {n: {external: {name: w}}}",
		"services: {a: {image: a, volumes: ['~/x:/x']}}",
	} {
		compose.Parse(t.Context(), []byte(file), nil, nil)
		if out.Len() > 0 {
			t.Errorf("%d: %s", i, out.String())
		}
		out.Reset()
	}
}

func TestParseOrder(t *testing.T) {
	var file strings.Builder
	file.WriteString("services:\n")
	for i := range 200 {
		fmt.Fprintf(&file, "  s%d: {image: 'i%d'}\n", (i*7)%200, i%50)
	}
	first, err := compose.Parse(t.Context(), []byte(file.String()), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if r, _ := compose.Parse(t.Context(), []byte(file.String()), nil, nil); !reflect.DeepEqual(r, first) {
			t.Fatal("another order")
		}
	}
}
