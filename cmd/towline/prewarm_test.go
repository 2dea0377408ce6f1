package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/pull"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// inDirectory writes files into a new directory and goes there, with nothing in
// the environment that says more.
func inDirectory(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, name := range []string{"COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_ENV_FILES", "DOCKER_DEFAULT_PLATFORM", "TAG"} {
		t.Setenv(name, "") // which takes it back afterwards
		os.Unsetenv(name)
	}
}

// scriptAll has the engine serve good.test/…, and fail the others as they are
// called.
func scriptAll(engine *enginetest.Engine) {
	for i, image := range []string{"good.test/a:v1", "good.test/b:v1", "good.test/c:v1", "docker.io/library/tool:latest"} {
		engine.Script(image, enginetest.Serve(enginetest.NewImage(image, i+1)))
	}
	for image, recording := range map[string]string{"limited.test/x": "rate-limited", "denied.test/x": "unauthorized", "full.test/x": "no-space"} {
		engine.Script(image, enginetest.Replay(transcripts.Load("engine-20.10/"+recording), nil))
	}
	engine.Script("slow.test/x", func(p *enginetest.Pull) { <-p.Gone() })
}

const project = `
version: "3"
services:
  a: {image: "good.test/a:${TAG}"}
  b: {image: good.test/b:v1, profiles: [more]}
  web: {build: ., image: web, pull_policy: build}
`

func TestPrewarmSources(t *testing.T) {
	inDirectory(t, map[string]string{
		"compose.yaml": project, ".env": "TAG=v1\n",
		"other.yaml": "services:\n  c: {image: good.test/c:v1}\n",
		"built.yaml": "services:\n  web: {build: .}\n",
		"ci.env":     "TAG=v1\nNAME=good.test/b\n",
		"unset.yaml": "services:\n  b: {image: '${NAME:-good.test/c}:v1${SUFFIX}', environment: {A: '${SUFFIX}'}}\n",
	})
	for _, row := range []struct {
		args, images string
		words        []string
	}{
		{"", "good.test/a:v1", []string{"towline: service web is skipped: its pull_policy is build", "towline: warning: ", "version"}},
		{"-f compose.yaml -f other.yaml", "good.test/a:v1 good.test/c:v1", nil},
		{"-f compose.yaml --profile more good.test/c:v1", "good.test/c:v1 good.test/a:v1 good.test/b:v1", nil},
		{"good.test/c:v1 good.test/b:v1 good.test/c:v1", "good.test/c:v1 good.test/b:v1", nil},
		{"good.test/a:v1 -f compose.yaml", "good.test/a:v1", nil},
		{"-f -", "good.test/b:v1", nil},
		{"-f other.yaml tool", "docker.io/library/tool:latest good.test/c:v1", []string{"the Compose file has no service tool; it is taken for the image docker.io/library/tool:latest"}},
		{"-f unset.yaml", "good.test/c:v1", []string{`towline: warning: The "SUFFIX" variable is not set. Defaulting to a blank string.`}},
		{"-q -f unset.yaml", "good.test/c:v1", []string{`The "SUFFIX" variable is not set`}},
		{"-f unset.yaml --env-file ci.env", "good.test/b:v1", nil},
		{"-p mine --project-directory . --env-file ci.env --profile more -f unset.yaml -f compose.yaml", "good.test/a:v1 good.test/b:v1", nil},
		{"-f built.yaml", "", []string{"web is skipped", "no image is left to pull"}},
	} {
		t.Run(fmt.Sprintf("args %.40s", row.args), func(t *testing.T) {
			host, engine, p := startDaemon(t)
			scriptAll(engine)
			in, err := os.CreateTemp(t.TempDir(), "stdin")
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(in, "services:\n  b: {image: good.test/b:v1}\n")
			in.Seek(0, io.SeekStart)
			stdin := os.Stdin
			os.Stdin = in
			code, out, errs, err := runApart(t.Context(), append([]string{"prewarm", "--host", host}, strings.Fields(row.args)...)...)
			os.Stdin = stdin
			in.Close()
			if code != 0 {
				t.Errorf("%d, %v\n%s%s", code, err, out, errs)
			}
			if strings.HasPrefix(row.args, "-q") && strings.Count(errs, "\n") != len(row.words) {
				t.Errorf("it says more than %q:\n%s", row.words, errs)
			}
			checkWords(t, errs, row.words...)
			for _, w := range row.words {
				if strings.Count(errs, w) > 1 {
					t.Errorf("it says %q more than once:\n%s", w, errs)
				}
			}
			jobs, _, err := p.Jobs(puller.Filter{Kind: puller.JobPrewarm})
			if err != nil || len(jobs) > 1 {
				t.Fatal(jobs, err)
			}
			var images []string
			for _, j := range jobs {
				for _, id := range j.Children {
					child, err := p.Job(id)
					if err != nil {
						t.Fatal(err)
					}
					images = append(images, child.Image)
				}
			}
			if got := strings.Join(images, " "); got != row.images {
				t.Errorf("it asks for %s, want %s", got, row.images)
			}
		})
	}
}

func TestPrewarmWrongInput(t *testing.T) {
	inDirectory(t, map[string]string{"bad.yaml": "services:\n  a: {imagine: x}\n"})
	for args, row := range map[string]struct {
		code  int
		words []string
	}{
		"":                                   {exit.CodeUsage, []string{"IMAGE is missing: name images", "-f", "compose.yaml"}},
		"--profile x":                        {exit.CodeUsage, []string{"-f"}},
		"alpine --profile x":                 {exit.CodeUsage, []string{"--profile", "-f"}},
		"alpine:3 --env-file x":              {exit.CodeUsage, []string{"--env-file", "-f"}},
		"alpine -p x":                        {exit.CodeUsage, []string{"--project-name", "-f"}},
		"-f bad.yaml --env-file nowhere.env": {exit.CodePermanent, []string{"nowhere.env"}},
		"alpine --timeout soon":              {exit.CodeUsage, nil},
		"-f":                                 {exit.CodeUsage, nil},
		"-f nowhere.yaml":                    {exit.CodePermanent, []string{"nowhere.yaml"}},
		"-f bad.yaml":                        {exit.CodePermanent, []string{"bad.yaml", "imagine"}},
		"alpine --policy nosuch":             {exit.CodePermanent, []string{"policy", "nosuch"}},
		"A:B:C":                              {exit.CodePermanent, []string{"A:B:C"}},
	} {
		t.Run("args "+args, func(t *testing.T) {
			host, _, _ := startDaemon(t)
			code, out, _, err := runApart(t.Context(), append([]string{"prewarm", "--host", host}, strings.Fields(args)...)...)
			if code != row.code || out != "" {
				t.Fatalf("%d, %v: %q", code, err, out)
			}
			checkWords(t, err.Error(), row.words...)
		})
	}
	if code, _, _, err := runApart(t.Context(), "prewarm", "alpine", "--host", "unix:///nowhere/s"); code != exit.CodeNoDaemon {
		t.Errorf("%d, %v", code, err)
	}
	if code, _, _, err := runApart(t.Context(), "prewarm", "alpine", "--plan", "--host", "unix:///nowhere/s"); code != exit.CodeNoDaemon {
		t.Errorf("%d, %v", code, err)
	}
}

func TestPrewarmExitCode(t *testing.T) {
	for args, want := range map[string]struct {
		code    int
		summary string
	}{
		"good.test/a:v1 good.test/b:v1":                                  {0, ""},
		"good.test/a:v1 limited.test/x":                                  {exit.CodeRetryable, "1 of 2 images failed"},
		"limited.test/x full.test/x":                                     {exit.CodeFailed, "2 of 2 images failed"},
		"limited.test/x denied.test/x full.test/x":                       {exit.CodePermanent, "3 of 3 images failed"},
		"limited.test/x slow.test/x slow.test/x:v2 --fail-fast":          {exit.CodeRetryable, "1 of 3 images failed, 2 canceled"},
		"good.test/a:v1 good.test/b:v1 --platform linux/arm64":           {exit.CodePermanent, "2 of 2 images failed"},
		"slow.test/x --policy never --priority low":                      {exit.CodePermanent, "1 of 1 image failed"},
		"slow.test/x good.test/a:v1 --policy always --timeout 1ms -q":    {exit.CodeFailed, ""},
		"good.test/a:v1 --policy always --priority high --timeout 1m -q": {0, ""},
	} {
		t.Run(args, func(t *testing.T) {
			host, engine, _ := startDaemon(t)
			scriptAll(engine)
			engine.Script("slow.test/x:v2", func(p *enginetest.Pull) { <-p.Gone() })
			code, out, errs, err := runApart(t.Context(), append([]string{"prewarm", "--retries", "0", "--host", host}, strings.Fields(args)...)...)
			if code != want.code || want.summary != "" && (err == nil || err.Error() != want.summary) {
				t.Errorf("%d, want %d: %v\n%s", code, want.code, err, out)
			}
			if strings.HasSuffix(args, "1m -q") && !regexp.MustCompile(`^good\.test/a:v1@sha256:0{63}1\n$`).MatchString(out) {
				t.Errorf("it prints %q", out)
			}
			checkSafe(t, out)
			checkSafe(t, errs)
			if want.summary == "" {
				return
			}
			if failed := strings.Count("\n"+errs, "\nfailed: "); failed != int(want.summary[0]-'0') {
				t.Errorf("%d failures are named:\n%s", failed, errs)
			}
		})
	}
}

func TestPrewarmNamesFailedImages(t *testing.T) {
	host, engine, _ := startDaemon(t)
	scriptAll(engine)
	code, out, errs, err := runApart(t.Context(), "prewarm", "--retries", "0", "--host", host, "good.test/a:v1", "denied.test/x:v1", "registry.test/nope:v1", "limited.test/x")
	if code != exit.CodePermanent {
		t.Error(code, err)
	}
	checkWords(t, errs, "failed: registry.test/nope:v1\n    not_found: ", "manifest unknown", "failed: limited.test/x:latest\n    rate_limited: ", "(try again in ")
	checkWords(t, out, "prewarm: job 01", ", 4 images\n", "\ngood.test/a:v1: pulled, sha256:", "\nlimited.test/x:latest: failed: rate_limited\n", "\nprewarm: failed: 1 of 4 images ready, 3 failed\nIMAGE  ")
	table := strings.Split(strings.TrimSpace(out[strings.Index(out, "\nIMAGE  "):]), "\n")
	var order []string
	for _, line := range table {
		order = append(order, strings.Fields(line)[0])
	}
	if want := []string{"IMAGE", "good.test/a:v1", "denied.test/x:v1", "registry.test/nope:v1", "limited.test/x:latest"}; !slices.Equal(order, want) {
		t.Errorf("the table has %s, want %s", order, want)
	}
	if !regexp.MustCompile(`^good\.test/a:v1 +sha256:0{63}1 +pulled +2\.0 kB +\d+\.\ds +-$`).MatchString(table[1]) {
		t.Errorf("%q", table[1])
	}
}

func TestPrewarmQuiet(t *testing.T) {
	host, engine, _ := startDaemon(t)
	scriptAll(engine)
	images := []string{"good.test/b:v1", "good.test/a:v1", "registry.test/nope:v1", "good.test/c:v1"}
	_, out, errs, _ := runApart(t.Context(), append([]string{"prewarm", "-q", "--retries", "0", "--host", host}, images...)...)
	want := fmt.Sprintf("good.test/b:v1@sha256:%064x\ngood.test/a:v1@sha256:%064x\ngood.test/c:v1@sha256:%064x\n", 2, 1, 3)
	if out != want || !strings.Contains(errs, "failed: registry.test/nope:v1\n") {
		t.Errorf("%s, want %s; %s", out, want, errs)
	}
}

func TestPrewarmJSON(t *testing.T) {
	inDirectory(t, map[string]string{"compose.yaml": project})
	t.Setenv("TAG", "v1")
	host, engine, _ := startDaemon(t)
	scriptAll(engine)
	code, out, _, err := runApart(t.Context(), "prewarm", "--json", "--host", host)
	if code != 0 {
		t.Fatal(code, err)
	}
	var last puller.Event
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if last.Result != nil {
			t.Errorf("after the result there is %s", lines.Text())
		}
		d := json.NewDecoder(strings.NewReader(lines.Text()))
		d.DisallowUnknownFields()
		if last = (puller.Event{}); d.Decode(&last) != nil || last.Type == "" {
			t.Errorf("a line is no event: %s", lines.Text())
		}
	}
	if last.Result == nil || last.Result.Kind != puller.JobPrewarm || last.Result.State != puller.StateSucceeded {
		t.Errorf("the last is %+v", last)
	}
}

func TestPrewarmInterrupted(t *testing.T) {
	host, engine, p := startDaemon(t)
	scriptAll(engine)
	c := newClient(t, host)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var errs strings.Builder
	d := showing(func(j *puller.Job, e puller.Event) { interrupt() })
	err := pull.Prewarm(ctx, new(command.Flags), c, puller.PrewarmRequest{Images: puller.Images{{Image: "slow.test/x"}}}, nil, d, &errs)
	if !errors.Is(err, context.Canceled) || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("it ends with %v: %s", err, errs.String())
	}
	jobs, _, err := p.Jobs(puller.Filter{})
	if err != nil || !slices.ContainsFunc(jobs, func(j puller.Job) bool { return j.Kind == puller.JobPrewarm && j.State == puller.StateCanceled }) {
		t.Errorf("%+v, %v", jobs, err)
	}
}

func TestPrewarmInterruptedWithoutDaemon(t *testing.T) {
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			io.WriteString(w, `{"id":"01J","kind":"prewarm","children":["01K"]}`)
		case http.MethodGet:
			io.WriteString(w, `{"seq":1,"type":"notice","job":"01J","message":"towline is shutting down"}`+"\n")
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	defer daemon.Close()
	c := newClient(t, daemon.URL)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var errs strings.Builder
	err := pull.Prewarm(ctx, new(command.Flags), c, puller.PrewarmRequest{}, nil, showing(func(*puller.Job, puller.Event) { interrupt() }), &errs)
	if exit.Code(err) != exit.CodeInterrupted || errs.String() != "towline: interrupted\n" {
		t.Errorf("%v: %s", err, errs.String())
	}
}

func TestDefaultPlatform(t *testing.T) {
	inDirectory(t, map[string]string{"compose.yaml": "services:\n  a: {image: good.test/a:v1}\n  b: {image: good.test/b:v1, platform: linux/amd64}\n"})
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "Linux/aarch64")
	for args, want := range map[string]string{
		"prewarm": "linux/arm64 linux/amd64", "prewarm good.test/a:v1": "linux/arm64", "prewarm --platform amd64": "linux/amd64 linux/amd64",
		"pull good.test/a:v1": "linux/arm64", "run good.test/a:v1": "linux/arm64", "pull --platform linux/386 good.test/a:v1": "linux/386",
	} {
		t.Run(args, func(t *testing.T) {
			host, engine, p := startDaemon(t)
			scriptAll(engine)
			t.Setenv("TOWLINE_HOST", host)
			runApart(t.Context(), strings.Fields(args)...)
			jobs, _, err := p.Jobs(puller.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, j := range jobs {
				if j.Kind != puller.JobPrewarm {
					got = append(got, j.Platform)
				}
			}
			slices.Reverse(got)
			if strings.Join(got, " ") != want {
				t.Errorf("%s asks for %s, want %s", args, got, want)
			}
		})
	}
}

func TestPrewarmServices(t *testing.T) {
	const services = `
services:
  web: {image: good.test/a:v1, depends_on: [db]}
  db: {image: good.test/b:v1}
  own: {image: nowhere.test/own:v1, build: .}
  both: {image: good.test/c:v1, build: .}
  kept: {image: good.test/c:v2, pull_policy: never}
  tool: {image: good.test/c:v1, profiles: [tools]}
`
	for args, want := range map[string]struct {
		code   int
		images string // "" for no job
		words  []string
	}{
		"web":                           {0, "good.test/a:v1", nil},
		"web --include-deps":            {0, "good.test/b:v1 good.test/a:v1", nil},
		"web db good.test/c:v1":         {0, "good.test/c:v1 good.test/b:v1 good.test/a:v1", nil},
		"tool":                          {0, "good.test/c:v1", nil},
		"own":                           {0, "nowhere.test/own:v1", []string{"must be built: docker compose build own\n"}},
		"own --ignore-buildable":        {0, "", []string{"service own is skipped: it can be built", "no image is left to pull"}},
		"both":                          {0, "good.test/c:v1", nil},
		"both --ignore-buildable":       {0, "", []string{"service both is skipped: it can be built"}},
		"kept":                          {0, "", []string{"service kept is skipped: its pull_policy is never"}},
		"":                              {0, "good.test/c:v1 good.test/b:v1 nowhere.test/own:v1 good.test/a:v1", []string{"service kept is skipped", "docker compose build own"}},
		"other -q":                      {exit.CodePermanent, "docker.io/library/other:latest", nil},
		"good.test/a:v1":                {0, "good.test/a:v1", nil},
		"web:latest":                    {exit.CodePermanent, "docker.io/library/web:latest", nil},
		"good.test/a:v1 --include-deps": {exit.CodeUsage, "", nil},
		"other --ignore-buildable":      {exit.CodeUsage, "", nil},
	} {
		t.Run("args "+args, func(t *testing.T) {
			inDirectory(t, map[string]string{"compose.yaml": services})
			host, engine, p := startDaemon(t)
			scriptAll(engine)
			code, out, errs, err := runApart(t.Context(), append([]string{"prewarm", "--retries", "0", "--host", host}, strings.Fields(args)...)...)
			if code != want.code {
				t.Errorf("%d, %v\n%s%s", code, err, out, errs)
			}
			checkWords(t, errs, want.words...)
			jobs, _, err := p.Jobs(puller.Filter{Kind: puller.JobPrewarm})
			if err != nil || len(jobs) > 1 {
				t.Fatal(jobs, err)
			}
			var images []string
			for _, j := range jobs {
				job, err := p.Job(j.ID)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range job.Images {
					images = append(images, s.Image)
				}
			}
			if got := strings.Join(images, " "); got != want.images {
				t.Errorf("it asks for %q, want %q", got, want.images)
			}
		})
	}
	t.Run("a file that can't be read", func(t *testing.T) {
		inDirectory(t, map[string]string{"compose.yaml": "services: 3\n"})
		for args, want := range map[string]int{"web": exit.CodePermanent, "good.test/a:v1": exit.CodeNoDaemon} {
			if code, _, _, err := runApart(t.Context(), "prewarm", "--host", "unix:///nowhere/s", args); code != want {
				t.Errorf("%s: %d, %v", args, code, err)
			}
		}
	})
}
