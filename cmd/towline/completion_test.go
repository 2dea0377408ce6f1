package main

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestCompletion(t *testing.T) {
	host, engine, p := startDaemon(t)
	engine.Script("docker.io/library/redis:7", enginetest.Serve(enginetest.NewImage("docker.io/library/redis:7", 1)))
	for _, args := range [][]string{{"sets", "apply", "base", "redis:7"}, {"sets", "refresh", "base"}} {
		if code, _, err := run(t.Context(), append(args, "--host", host)...); code != 0 {
			t.Fatal(args, code, err)
		}
	}
	engine.Script("slow", func(p *enginetest.Pull) { <-p.Gone() })
	slow, err := p.Pull(puller.PullRequest{Image: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"pull --policy ":       "always\nmissing\nnever\nnewer\n:4\n",
		"sets apply --policy ": "newer\nmissing\n:4\n",
		"run --network ":       "bridge\nnone\n:4\n",
		"jobs ls --state ":     "queued\nactive\nsucceeded\nfailed\ncanceled\n:4\n",
		"token new --scope ":   "read\npull\nrun\nadmin\n:4\n",
		"fleet show --state ":  "proven\npulling\n",
		"images --owner ":      "towline\nother\n:4\n",
		"pull ":                ":4\n", // no files
		"lock ":                "yaml\nyml\n:8\n",
		"serve --config ":      ":0\n", // files
		"sets show ":           "base\n:4\n",
		"sets rm base ":        ":4\n",
		"jobs cancel ":         slow.ID + "\tdocker.io/library/slow:latest, ",
		"jobs show ":           slow.ID + "\tdocker.io/library/slow:latest, ",
	} {
		_, out, _, err := runApart(t.Context(), append([]string{"__complete", "--host", host}, strings.Split(line, " ")...)...)
		if err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("%q: %q, %v", line, out, err)
		}
	}
}
