package main

import (
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

func TestJobs(t *testing.T) {
	t.Run("pull", func(t *testing.T) {
		host, engine, p := startDaemon(t)
		playFresh(engine)
		engine.Script("slow", func(p *enginetest.Pull) { <-p.Gone() })
		if code, _, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "registry.test/nope:v1", "--host", host); code != exit.CodePermanent {
			t.Fatal(code, err)
		}
		slow, err := p.Pull(puller.PullRequest{Image: "slow"})
		if err != nil {
			t.Fatal(err)
		}
		failed, _, _ := p.Jobs(puller.Filter{State: puller.StateFailed})
		call := func(want int, words []string, args ...string) {
			t.Helper()
			code, out, err := run(t.Context(), append(args, "--host", host)...)
			if code != want {
				t.Errorf("%q: exit code %d, want %d: %v", args, code, want, err)
			}
			checkWords(t, out, words...)
		}
		call(0, []string{"JOB", "  pull  ", "pulled", "not_found", "docker.io/library/slow:latest"}, "jobs")
		call(0, []string{"not_found"}, "jobs", "ls", "--state", "failed", "--image", "registry.test/nope:v1")
		call(0, []string{`{"jobs":[{"id":"` + slow.ID}, "jobs", "ls", "--json", "--limit", "1")
		call(0, []string{"there are more jobs"}, "jobs", "ls", "--limit", "1")
		call(exit.CodePermanent, nil, "jobs", "ls", "--state", "nonsense")
		call(0, []string{`"id": "` + slow.ID + `"`}, "jobs", "show", slow.ID)
		call(exit.CodePermanent, []string{"failed: not_found"}, "jobs", "events", failed[0].ID)
		call(0, []string{slow.ID + ": canceled"}, "jobs", "cancel", slow.ID)
		call(exit.CodeFailed, nil, "jobs", "cancel", slow.ID)
		call(exit.CodeFailed, []string{"slow:latest: canceled\n"}, "jobs", "events", slow.ID)
		call(exit.CodePermanent, nil, "jobs", "show", "nope")
	})
	t.Run("folded", func(t *testing.T) {
		host, engine, p := startDaemon(t)
		scriptAll(engine)
		runApart(t.Context(), "pull", "--host", host, "good.test/b:v1")
		runApart(t.Context(), "prewarm", "--host", host, "good.test/a:v1", "good.test/c:v1")
		runApart(t.Context(), "pull", "--host", host, "good.test/b:v1")
		for flags, want := range map[string]string{
			"": "pull prewarm pull", "--limit 2": "pull prewarm", "--all": "pull pull pull prewarm pull", "--kind pull": "pull pull pull pull", "--image good.test/a:v1": "pull",
		} {
			_, out, _, err := runApart(t.Context(), append([]string{"jobs", "ls", "--host", host}, strings.Fields(flags)...)...)
			var kinds []string
			for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
				kinds = append(kinds, strings.Fields(line)[1])
			}
			got := strings.Join(kinds, " ")
			if flags == "--all" { // a prewarm and its pulls are begun at one time
				got = strings.Replace(got, "pull prewarm pull pull pull", want, 1)
				got = strings.Replace(got, "pull pull prewarm pull pull", want, 1)
			}
			if err != nil || got != want {
				t.Errorf("%q: %v, %s, want %s", flags, err, got, want)
			}
		}
		if all, _, err := p.Jobs(puller.Filter{}); err != nil || len(all) != 5 {
			t.Errorf("there are %d jobs, %v", len(all), err)
		}
	})
	t.Run("prewarm", func(t *testing.T) {
		host, engine, p := startDaemon(t)
		scriptAll(engine)
		runApart(t.Context(), "prewarm", "--retries", "0", "--host", host, "good.test/a:v1", "registry.test/nope:v1")
		runApart(t.Context(), "prewarm", "--host", host, "good.test/a:v1")
		slow, err := p.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: "slow.test/x"}}})
		if err != nil {
			t.Fatal(err)
		}
		failed, _, err := p.Jobs(puller.Filter{Kind: puller.JobPrewarm, State: puller.StateFailed})
		if err != nil || len(failed) != 1 {
			t.Fatal(failed, err)
		}
		for _, row := range []struct {
			code  int
			words []string
			args  string
		}{
			{0, []string{"  2 images  not_found\n", "  1 image   downloaded "}, "ls --kind prewarm"},
			{0, []string{"  good.test/a:v1  "}, "ls --kind pull"},
			{exit.CodePermanent, nil, "ls --kind nonsense"},
			{0, []string{`"images": [`, `"children": [`}, "show " + failed[0].ID},
			{exit.CodePermanent, []string{"prewarm: failed: 1 of 2 images ready, 1 failed\n", "failed: registry.test/nope:v1\n    not_found: "}, "events " + failed[0].ID},
			{0, []string{slow.ID + ": canceled"}, "cancel " + slow.ID},
			{exit.CodeFailed, []string{"prewarm: canceled: 0 of 1 image ready, 1 canceled\n", "canceled: slow.test/x:latest\n"}, "events " + slow.ID},
		} {
			code, out, err := run(t.Context(), append([]string{"jobs", "--host", host}, strings.Fields(row.args)...)...)
			if code != row.code {
				t.Errorf("%s: %d, %v", row.args, code, err)
			}
			checkWords(t, out, row.words...)
		}
	})
}
