package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/pull"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// playFresh makes the engine pull what was recorded.
func playFresh(engine *enginetest.Engine) {
	const image = "127.0.0.1:5000/lab0:v1"
	recording := transcripts.Load("engine-20.10/fresh")
	i := enginetest.NewImage(image, 1)
	_, digest, _ := strings.Cut(string(recording.Body), "Digest: ")
	i.RepoDigests = []string{"127.0.0.1:5000/lab0@" + digest[:71]}
	engine.Script(image, enginetest.Replay(recording, &i))
}

func TestPullJSON(t *testing.T) {
	host, engine, _ := startDaemon(t)
	playFresh(engine)
	code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "registry.test/nope:v1", "--json", "--host", host)
	if code != exit.CodePermanent {
		t.Error(code, err)
	}
	results := make(map[string]*puller.Job)
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		var e puller.Event
		d := json.NewDecoder(strings.NewReader(lines.Text()))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil || e.Type == "" || e.Job == "" || e.Time.IsZero() {
			t.Errorf("a line is no event: %v: %s", err, lines.Text())
			continue
		}
		if results[e.Job] != nil {
			t.Errorf("after its result, a job tells %s", lines.Text())
		}
		if e.Result != nil {
			results[e.Job] = e.Result
		}
	}
	var ends []puller.State
	for _, j := range results {
		ends = append(ends, j.State)
	}
	if len(ends) != 2 || ends[0] == ends[1] {
		t.Errorf("the results are %v in\n%s", ends, out)
	}
}

func TestPullQuiet(t *testing.T) {
	host, engine, _ := startDaemon(t)
	playFresh(engine)
	if code, out, err := run(t.Context(), "pull", "-q", "127.0.0.1:5000/lab0:v1", "--host", host); code != 0 || !regexp.MustCompile("^127\\.0\\.0\\.1:5000/lab0:v1@sha256:[0-9a-f]{64}\n$").MatchString(out) {
		t.Errorf("%d, %v: %q", code, err, out)
	}
	if code, out, err := run(t.Context(), "pull", "-q", "registry.test/nope:v1", "--host", host); code != exit.CodePermanent || out != "" || !strings.Contains(err.Error(), "not_found") {
		t.Errorf("%d, %v: %q", code, err, out)
	}
}

func TestPullExitCode(t *testing.T) {
	for images, want := range map[string]int{
		"good.test/x":                              0,
		"limited.test/x":                           4,
		"denied.test/x":                            3,
		"full.test/x":                              1,
		"good.test/x limited.test/x":               4,
		"limited.test/x full.test/x":               1,
		"limited.test/x denied.test/x full.test/x": 3,
		"A:B:C":                                     3,
		"good.test/x --platform linux/arm64":        3,
		"good.test/x --platform nonsense":           3,
		"good.test/x --policy nonsense":             3,
		"slow.test/x --policy always --timeout 1ms": 1,
		"slow.test/x --policy never --priority low": 3,
	} {
		// Each with a daemon of its own: a registry that limits the rate is
		// not asked again at once.
		t.Run(images, func(t *testing.T) {
			host, engine, _ := startDaemon(t)
			engine.Script("good.test/x", enginetest.Serve(enginetest.NewImage("good.test/x", 1)))
			engine.Script("slow.test/x", func(p *enginetest.Pull) { <-p.Gone() })
			for image, recording := range map[string]string{"limited.test/x": "rate-limited", "denied.test/x": "unauthorized", "full.test/x": "no-space"} {
				engine.Script(image, enginetest.Replay(transcripts.Load("engine-20.10/"+recording), nil))
			}
			args := append([]string{"pull", "--retries", "0", "--host", host}, strings.Fields(images)...)
			if code, out, err := run(t.Context(), args...); code != want {
				t.Errorf("%d, want %d: %v\n%s", code, want, err, out)
			}
		})
	}
}

func TestPullInterrupted(t *testing.T) {
	host, engine, p := startDaemon(t)
	for _, image := range []string{"one", "two"} {
		engine.Script(image, func(p *enginetest.Pull) {
			p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"aaaaaaaaaaaa"}`)
			<-p.Gone()
		})
	}
	c := newClient(t, host)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	loading := make(map[string]bool)
	err := pull.All(ctx, c, client.PullRequest{}, []string{"one", "two"}, nil, showing(func(j *puller.Job, e puller.Event) {
		if e.Type == "layer" {
			loading[j.Image] = true
		}
		if len(loading) == 2 {
			interrupt()
		}
	}))
	if exit.Code(err) != exit.CodeInterrupted {
		t.Errorf("it ends with %v", err)
	}
	checkCanceled(t, p, 2)
}

func checkCanceled(t *testing.T, p *jobs.Service, n int) {
	t.Helper()
	jobs, _, err := p.Jobs(puller.Filter{})
	if err != nil || len(jobs) != n {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
	for _, j := range jobs {
		if j.State != puller.StateCanceled {
			t.Errorf("job of %s is %s", j.Image, j.State)
		}
	}
}

func TestPullInterruptedDuringSubmit(t *testing.T) {
	host, engine, p := startDaemon(t)
	engine.Script("one", func(p *enginetest.Pull) { <-p.Gone() })
	direct := newClient(t, host)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	// A daemon whose answer comes only after the interrupt.
	var once sync.Once
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		var err error
		switch r.Method {
		case "POST":
			answer, err = direct.Submit(context.Background(), client.PullRequest{Image: "one"})
			once.Do(interrupt)
			w.WriteHeader(http.StatusAccepted)
		case "DELETE":
			answer, err = direct.Cancel(context.Background(), r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
		}
		if err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(answer)
	}))
	defer front.Close()
	c := newClient(t, front.URL)
	if err := pull.All(ctx, c, client.PullRequest{}, []string{"one"}, nil, render.Silent{}); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	checkCanceled(t, p, 1)
}

func TestPullLines(t *testing.T) {
	host, engine, _ := startDaemon(t)
	playFresh(engine)
	code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "--host", host)
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	checkSafe(t, out)
	want := regexp.MustCompile(`^127\.0\.0\.1:5000/lab0:v1: (queued|resolving|pulling)\n(127\.0\.0\.1:5000/lab0:v1: .+\n)*` +
		`127\.0\.0\.1:5000/lab0:v1: pulled, sha256:[0-9a-f]{64}, 74\.3 MB in [0-9.]+s\n$`)
	if !want.MatchString(out) {
		t.Errorf("the output is:\n%s", out)
	}
}
