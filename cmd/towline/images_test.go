package main

import (
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestImages(t *testing.T) {
	host, engine, _ := startDaemon(t)
	engine.Tag("redis:7", enginetest.NewImage("redis:7", 1))
	engine.Tag("alpine:3", enginetest.NewImage("alpine:3", 2))
	engine.AddContainer(enginetest.ContainerRequest{Name: "cache", Image: enginetest.NewImage("redis:7", 1).ID}, false)
	for _, c := range []struct {
		want  int
		words []string
		args  []string
	}{
		{0, []string{"IMAGE", "STAYS FOR", "docker.io/library/redis:7", "container: cache", "docker.io/library/alpine:3", "other"}, []string{"images"}},
		{0, []string{"docker.io/library/alpine:3"}, []string{"images", "--collectable"}},
		{0, []string{"docker.io/library/redis:7"}, []string{"images", "--kept"}},
		{0, []string{`{"images":[{"id":"sha256:c`, `"names":["docker.io/library/redis:7"`}, []string{"images", "redis", "--json", "--limit", "1"}},
		{0, []string{`{"images":[]}`}, []string{"images", "--owner", "towline", "--json"}},
		{exit.CodePermanent, nil, []string{"images", "--owner", "me"}},
		{exit.CodePermanent, nil, []string{"images", "A B"}},
		{exit.CodeUsage, nil, []string{"images", "a", "b"}},
		{0, []string{"TIME", "docker.io/library/nginx:1", "removed", "high"}, []string{"images", "--history"}},
		{0, []string{`{"events":[]}`}, []string{"images", "redis:7", "--history", "--limit", "5", "--json"}},
		{exit.CodeUsage, []string{"--history and --kept don't go together; set one of them"}, []string{"images", "--history", "--kept"}},
		{exit.CodeUsage, []string{"--limit: -1 is below 0"}, []string{"images", "--limit", "-1"}},
		{0, []string{"redis:7", "stays (container: cache)", "alpine:3", "stays (no disk)", "0 images would be removed"}, []string{"collect", "--plan"}},
		{0, []string{`"dry_run":true`, `"removed":[]`}, []string{"collect", "--plan", "--json"}},
		{0, []string{"0 images removed"}, []string{"collect"}},
		{exit.CodeUsage, nil, []string{"collect", "all"}},
	} {
		code, out, err := run(t.Context(), append(c.args, "--host", host)...)
		if code != c.want {
			t.Errorf("%q: exit code %d, want %d: %v", c.args, code, c.want, err)
		}
		checkWords(t, out+exit.Message(err), c.words...)
	}
	_, out, _ := run(t.Context(), "images", "--collectable", "-q", "--host", host)
	if puller.ClipTo(out, 5) == "" {
		t.Error("nothing is printed")
	}
}
