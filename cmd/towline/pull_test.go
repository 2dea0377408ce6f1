package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/towline/towline/api/client"
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

func TestPullPrintsItsEventsAsJSONLines(t *testing.T) {
	host, engine, _ := startDaemon(t)
	playFresh(engine)
	code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "registry.test/nope:v1", "--json", "--host", host)
	if code != exitPermanent {
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

func TestQuietPrintsNothing(t *testing.T) {
	host, engine, _ := startDaemon(t)
	playFresh(engine)
	if code, out, err := run(t.Context(), "pull", "-q", "127.0.0.1:5000/lab0:v1", "--host", host); code != 0 || out != "" {
		t.Errorf("%d, %v: %q", code, err, out)
	}
	if code, out, err := run(t.Context(), "pull", "-q", "registry.test/nope:v1", "--host", host); code != exitPermanent || out != "" || !strings.Contains(err.Error(), "not_found") {
		t.Errorf("%d, %v: %q", code, err, out)
	}
}

func TestPullExitsWithTheCodeOfItsFailure(t *testing.T) {
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

func TestAnInterruptCancelsTheJobs(t *testing.T) {
	host, engine, p := startDaemon(t)
	for _, image := range []string{"one", "two"} {
		engine.Script(image, func(p *enginetest.Pull) {
			p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"aaaaaaaaaaaa"}`)
			<-p.Gone()
		})
	}
	c, err := client.New(host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	loading := make(map[string]bool)
	err = pullAll(ctx, c, puller.PullRequest{}, []string{"one", "two"}, showing(func(j *puller.Job, e puller.Event) {
		if e.Type == "layer" {
			loading[j.Image] = true
		}
		if len(loading) == 2 {
			interrupt()
		}
	}))
	if exitCode(err) != exitInterrupted {
		t.Errorf("it ends with %v", err)
	}
	checkCanceled(t, p, 2)
}

// showing is a display of the test's own.
type showing func(*puller.Job, puller.Event)

func (s showing) show(j *puller.Job, e puller.Event) { s(j, e) }
func (showing) end()                                 {}

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

func TestAnInterruptWhileAJobIsSubmittedCancelsIt(t *testing.T) {
	host, engine, p := startDaemon(t)
	engine.Script("one", func(p *enginetest.Pull) { <-p.Gone() })
	direct, err := client.New(host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	// A daemon whose answer comes only after the interrupt.
	var once sync.Once
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		var err error
		switch r.Method {
		case "POST":
			answer, err = direct.Submit(context.Background(), puller.PullRequest{Image: "one"})
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
	c, err := client.New(front.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := pullAll(ctx, c, puller.PullRequest{}, []string{"one"}, silent{}); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	checkCanceled(t, p, 1)
}

func TestJobsAreListedShownFollowedAndCanceled(t *testing.T) {
	host, engine, p := startDaemon(t)
	playFresh(engine)
	engine.Script("slow", func(p *enginetest.Pull) { <-p.Gone() })
	if code, _, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "registry.test/nope:v1", "--host", host); code != exitPermanent {
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
			t.Errorf("%q: %d, %v", args, code, err)
		}
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%q does not tell %q:\n%s", args, w, out)
			}
		}
	}
	call(0, []string{"JOB", "pulled", "not_found", "docker.io/library/slow:latest"}, "jobs")
	call(0, []string{"not_found"}, "jobs", "ls", "--state", "failed", "--image", "registry.test/nope:v1")
	call(0, []string{`{"jobs":[{"id":"` + slow.ID}, "jobs", "ls", "--json", "--limit", "1")
	call(0, []string{"There are more"}, "jobs", "ls", "--limit", "1")
	call(exitPermanent, nil, "jobs", "ls", "--state", "nonsense")
	call(0, []string{`"id": "` + slow.ID + `"`}, "jobs", "show", slow.ID)
	call(exitPermanent, []string{"failed: not_found"}, "jobs", "events", failed[0].ID)
	call(0, []string{slow.ID + ": canceled"}, "jobs", "cancel", slow.ID)
	call(exitFailed, nil, "jobs", "cancel", slow.ID)
	call(exitFailed, []string{"canceled: canceled"}, "jobs", "events", slow.ID)
	call(exitPermanent, nil, "jobs", "show", "nope")
}
