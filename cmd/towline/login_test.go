package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller/enginetest"
)

// dockerConfig writes a config.json, which commands read.
func dockerConfig(t *testing.T, content string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

// users notes which user the engine is shown for each image.
func users(engine *enginetest.Engine, images ...string) func(image string) string {
	var mu sync.Mutex
	seen := make(map[string]string)
	for i, image := range images {
		engine.Script(image, func(p *enginetest.Pull) {
			raw, _ := base64.URLEncoding.DecodeString(p.Auth())
			var l struct{ Username string }
			json.Unmarshal(raw, &l)
			mu.Lock()
			seen[image] = l.Username
			mu.Unlock()
			enginetest.Serve(enginetest.NewImage(image, i+1))(p)
		})
	}
	return func(image string) string {
		mu.Lock()
		defer mu.Unlock()
		return seen[image]
	}
}

func TestLogins(t *testing.T) {
	const a, b, other = "a.test/x:v1", "b.test:5000/x:v1", "other.test/x:v1"
	login := func(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":hunter2")) }
	config := `{"auths":{"a.test":{"auth":"` + login("ada") + `"},"b.test:5000":{"auth":"` + login("ben") + `"},"unused.test":{"auth":"` + login("eve") + `"}}}`
	for args, want := range map[string]string{
		"pull":                        "ada ben ",
		"prewarm":                     "ada ben ",
		"pull --no-credentials":       "  ",
		"prewarm --no-credentials -q": "  ",
	} {
		t.Run(args, func(t *testing.T) {
			dockerConfig(t, config)
			host, engine, _ := startDaemon(t)
			user := users(engine, a, b, other)
			code, out, err := run(t.Context(), append(strings.Fields(args), "--host", host, a, b, other)...)
			if got := user(a) + " " + user(b) + " " + user(other); code != 0 || got != want || strings.Contains(out, "hunter2") {
				t.Errorf("%d, %v: the engine sees %q, want %q\n%s", code, err, got, want, out)
			}
		})
	}
	t.Run("run", func(t *testing.T) {
		dockerConfig(t, config)
		host, engine, _ := startDaemon(t)
		user := users(engine, a)
		run(t.Context(), "run", "--host", host, a)
		if user(a) != "ada" {
			t.Errorf("the engine sees %q", user(a))
		}
	})
}

func TestDeniedAdvice(t *testing.T) {
	dockerConfig(t, "{}")
	host, engine, _ := startDaemon(t)
	t.Setenv("TOWLINE_HOST", host)
	scriptAll(engine)
	for _, args := range []string{"pull denied.test/x", "prewarm denied.test/x good.test/a:v1", "pull denied.test/x good.test/a:v1", "run denied.test/x"} {
		_, _, err := run(t.Context(), strings.Fields(args)...)
		checkWords(t, exit.Message(err), "towline: This command found no login for denied.test in "+filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"),
			`docker login denied.test`, "registries.credentials", "X-Registry-Auth")
		if strings.Count(exit.Message(err), "docker login") != 1 {
			t.Errorf("%s: %s", args, exit.Message(err))
		}
	}
	_, _, err := run(t.Context(), "pull", "registry.test/nope:v1")
	if strings.Contains(exit.Message(err), "docker login") {
		t.Errorf("%s", exit.Message(err))
	}
}
