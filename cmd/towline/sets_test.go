package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller/enginetest"
)

// runCommands runs commands one after the other, and checks their exit codes and words.
func runCommands(t *testing.T, host string, all []struct {
	want  int
	words []string
	args  []string
}) {
	t.Helper()
	for _, c := range all {
		code, out, err := run(t.Context(), append(c.args, "--host", host)...)
		if code != c.want {
			t.Errorf("%q: exit code %d, want %d: %v: %s", c.args, code, c.want, err, out)
		}
		if err != nil {
			out += err.Error()
		}
		checkWords(t, out, c.words...)
	}
}

func TestSets(t *testing.T) {
	host, engine, _ := startDaemon(t)
	for i, image := range []string{"docker.io/library/redis:7", "docker.io/library/nginx:latest"} {
		engine.Script(image, enginetest.Serve(enginetest.NewImage(image, i)))
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("TAG", "7")
	composed := write("shop.yaml", "services: {db: {image: 'redis:${TAG}'}, own: {build: .}}\nx-towline: {schedule: '@daily', timezone: UTC, protect: false}")
	list := write("list.yaml", "name: listed\nimages: [redis:7, nginx]\nwindow: 22:00-06:00\n")
	bad := write("bad.yaml", "images: [redis]\nschedul: x")
	runCommands(t, host, []struct {
		want  int
		words []string
		args  []string
	}{
		{0, []string{"SET", "NEXT"}, []string{"sets"}},
		{0, []string{"base: ", "protected", "docker.io/library/redis:7", "next: in "}, []string{"sets", "apply", "base", "redis:7", "--schedule", "@daily", "--policy", "missing"}},
		{0, []string{"refreshed: now", "shop", "may be collected", "docker.io/library/redis:7"}, []string{"sets", "apply", "-f", composed, "--policy", "missing"}},
		{0, []string{"listed", "docker.io/library/nginx:latest"}, []string{"sets", "apply", "-f", list, "--window", "00:00-23:59", "--policy", "missing"}},
		{0, []string{`"name":"other"`, `"protect":false`}, []string{"sets", "apply", "-f", list, "other", "--no-protect", "--policy", "missing", "--json"}},
		{0, []string{"2 of 2 images ready"}, []string{"sets", "refresh", "listed"}},
		{0, []string{"2 present", "docker.io/library/nginx:latest"}, []string{"sets", "show", "listed"}},
		{0, []string{`"state":"present"`}, []string{"sets", "show", "listed", "--json"}},
		{0, []string{"base", "api", "1 present", "listed", "when an image is missing"}, []string{"sets", "ls"}},
		{0, []string{`{"faults":null,"sets":[`}, []string{"sets", "--json"}},
		{0, []string{"base: forgotten"}, []string{"sets", "rm", "base"}},
		{exit.CodePermanent, []string{"there is no set"}, []string{"sets", "show", "base"}},
		{exit.CodePermanent, []string{"there is no set"}, []string{"sets", "rm", "base"}},
		{exit.CodePermanent, []string{"schedule: "}, []string{"sets", "apply", "base", "redis", "--schedule", "0 0 31 2 *"}},
		{exit.CodePermanent, []string{"bad.yaml", "schedul: there is no such field"}, []string{"sets", "apply", "-f", bad}},
		{exit.CodePermanent, []string{"name: "}, []string{"sets", "apply", "Base", "redis"}},
		{exit.CodePermanent, []string{"no such file"}, []string{"sets", "apply", "-f", filepath.Join(dir, "none.yaml")}},
		{exit.CodeUsage, []string{"NAME is missing"}, []string{"sets", "apply"}},
		{exit.CodeUsage, []string{"IMAGE is missing"}, []string{"sets", "apply", "base"}},
		{exit.CodeUsage, []string{"IMAGE"}, []string{"sets", "apply", "-f", list, "base", "redis"}},
		{exit.CodeUsage, nil, []string{"sets", "show"}},
		{exit.CodeUsage, nil, []string{"sets", "mend"}},
	})
}

func TestLeases(t *testing.T) {
	host, engine, _ := startDaemon(t)
	engine.Script("docker.io/library/redis:7", enginetest.Serve(enginetest.NewImage("docker.io/library/redis:7", 1)))
	code, id, err := run(t.Context(), "lease", "add", "redis:7", "nginx", "alpine", "--ttl", "2h", "--note", "a build", "-q", "--host", host)
	if id = strings.TrimSpace(id); code != 0 || len(id) != 26 {
		t.Fatal(code, id, err)
	}
	runCommands(t, host, []struct {
		want  int
		words []string
		args  []string
	}{
		{0, []string{"LEASE", id, "in 1h59m", "docker.io/library/alpine:latest", "1 more", "a build"}, []string{"lease"}},
		{0, []string{"in 29m"}, []string{"lease", "renew", id, "--ttl", "30m"}},
		{0, []string{`"ttl_seconds":1800`}, []string{"lease", "ls", "--image", "nginx", "--json"}},
		{0, nil, []string{"pull", "redis:7", "--lease", "3h"}},
		{0, []string{"in 2h59m", "docker.io/library/redis:7"}, []string{"lease", "ls", "--image", "redis:7"}},
		{0, nil, []string{"prewarm", "redis:7", "--lease", "4h"}},
		{0, []string{"in 3h59m"}, []string{"lease", "ls"}},
		{0, []string{id + ": ended"}, []string{"lease", "rm", id}},
		{exit.CodePermanent, []string{"there is no lease"}, []string{"lease", "rm", id}},
		{exit.CodePermanent, []string{"ttl: missing"}, []string{"lease", "add", "redis"}},
		{exit.CodePermanent, []string{"ttl: "}, []string{"lease", "renew", id, "--ttl", "soon"}},
		{exit.CodePermanent, []string{"lease: "}, []string{"pull", "redis:7", "--lease", "1s"}},
		{exit.CodeUsage, nil, []string{"lease", "add", "--ttl", "2h"}},
	})
}
