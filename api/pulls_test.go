package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

func TestPull(t *testing.T) {
	d := start(t)
	gate := d.held("alpine:3.20")
	a := d.call("POST", "/v1/pulls", `{"image":"alpine:3.20","platform":"linux/amd64","policy":"always","priority":"high","timeout":"90s","retries":2}`)
	job := a.job(t, http.StatusAccepted)
	got := puller.Job{Kind: job.Kind, Image: job.Image, Platform: job.Platform, Policy: job.Policy, Priority: job.Priority}
	want := puller.Job{Kind: puller.JobPull, Image: "docker.io/library/alpine:3.20", Platform: "linux/amd64", Policy: puller.PolicyAlways, Priority: puller.PriorityHigh}
	if diff := cmp.Diff(want, got); diff != "" || job.State.Ended() || job.CreatedAt.IsZero() {
		t.Errorf("the job is %s, created at %s (-want +got):\n%s", job.State, job.CreatedAt, diff)
	}
	if got := a.Header.Get("Location"); got != "/v1/jobs/"+job.ID {
		t.Errorf("Location is %q, the job %s", got, job.ID)
	}
	close(gate)
	d.ended(job.ID)
	if got := d.call("GET", a.Header.Get("Location"), "").job(t, http.StatusOK); got.State != puller.StateSucceeded {
		t.Errorf("at the location is %+v", got)
	}
}

func TestPullWait(t *testing.T) {
	d := start(t)
	image := d.good("registry.test/app:v1", 1)
	a := d.call("POST", "/v1/pulls?wait=true", `{"image":"registry.test/app:v1"}`)
	job := a.job(t, http.StatusOK)
	if job.State != puller.StateSucceeded || job.Result == nil {
		t.Fatalf("the job is %s", a.Body)
	}
	got := puller.Result{Source: job.Result.Source, Digest: job.Result.Digest, ImageID: job.Result.ImageID}
	want := puller.Result{Source: puller.SourcePulled, Digest: enginetest.Digest(image), ImageID: image.ID}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the result (-want +got):\n%s", diff)
	}
	if got := a.Header.Get("Location"); got != "/v1/jobs/"+job.ID {
		t.Errorf("Location is %q", got)
	}
	again := d.call("POST", "/v1/pulls?wait=true", `{"image":"registry.test/app:v1"}`).job(t, http.StatusOK)
	if again.Result.Source != puller.SourcePresent || d.Engine.Counts().Pulls != 1 {
		t.Errorf("an image that is there was pulled again: %+v", again.Result)
	}
	if plain := d.call("POST", "/v1/pulls?wait=false", `{"image":"registry.test/app:v1"}`); plain.Status != http.StatusAccepted {
		t.Errorf("?wait=false is answered with %d", plain.Status)
	}
}

// pullFailures are all failures that a pull can be brought to with an engine.
var pullFailures = []struct {
	name   string
	status int
	kind   puller.ErrorKind
	script enginetest.Script
	body   string // more of the request
}{
	{name: "a tag that is not there", status: 404, kind: puller.ErrNotFound, script: play("engine-20.10/tag-not-found")},
	{name: "an image that may never be pulled", status: 404, kind: puller.ErrNotFound, body: `,"policy":"never"`},
	{name: "a registry that wants to know who asks", status: 403, kind: puller.ErrDenied, script: play("engine-20.10/unauthorized")},
	{name: "a registry that limits the rate", status: 429, kind: puller.ErrRateLimited, script: play("engine-20.10/rate-limited")},
	{name: "a registry that is down", status: 502, kind: puller.ErrRegistryUnavailable, script: play("engine-20.10/registry-down")},
	{name: "a layer that is corrupt", status: 502, kind: puller.ErrCorrupt, script: play("engine-20.10/corrupt-layer")},
	{name: "an engine that is killed midway", status: 502, kind: puller.ErrTruncated, script: play("engine-20.10/engine-killed-midway")},
	{name: "a success without an image", status: 502, kind: puller.ErrTruncated, script: func(p *enginetest.Pull) { p.Line(`{"status":"Status: Downloaded newer image"}`) }},
	{name: "a full disk", status: 507, kind: puller.ErrNoSpace, script: play("engine-20.10/no-space")},
	{name: "an image of another platform", status: 422, kind: puller.ErrPlatformMismatch, body: `,"platform":"linux/arm64"`,
		script: enginetest.Serve(enginetest.NewImage("failing:v1", 3))},
	{name: "a job that takes too long", status: 504, kind: puller.ErrTimeout, body: `,"timeout":"30ms"`, script: func(p *enginetest.Pull) { <-p.Gone() }},
	{name: "an engine that never begins", status: 504, kind: puller.ErrStalled, script: func(p *enginetest.Pull) { <-p.Gone() }},
	{name: "an engine that says what nobody knows", status: 500, kind: puller.ErrInternal, script: func(p *enginetest.Pull) { p.Fail("kaput") }},
	{name: "an engine that refuses the request", status: 400, kind: puller.ErrInvalidRequest, script: func(p *enginetest.Pull) { p.Refuse(400, "kaput") }},
}

func play(recording string) enginetest.Script {
	return enginetest.Replay(transcripts.Load(recording), nil)
}

func TestPullWaitFailure(t *testing.T) {
	d := start(t)
	check := func(t *testing.T, d *daemon, a answer, status int, kind puller.ErrorKind) {
		t.Helper()
		p := a.problem(t, status, kind)
		var fields map[string]any
		if err := json.Unmarshal([]byte(a.Body), &fields); err != nil {
			t.Fatal(err)
		}
		want := []string{"detail", "job", "kind", "retryable", "status", "title", "type"}
		if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
			t.Errorf("the problem has %q, want %q", got, want)
		}
		job := d.call("GET", "/v1/jobs/"+p.Job, "").job(t, http.StatusOK)
		if job.Error == nil || job.Error.Kind != kind || job.Error.Message != p.Detail || job.Error.Retryable != p.Retryable || job.Result != nil {
			t.Errorf("the problem is %s\nand the job's error %+v", a.Body, job.Error)
		}
		if a.Header.Get("Location") != "/v1/jobs/"+p.Job {
			t.Errorf("Location is %q, the job %s", a.Header.Get("Location"), p.Job)
		}
	}
	for i, f := range pullFailures {
		t.Run(f.name, func(t *testing.T) {
			// A registry of its own: an answer of one slows down the next call.
			image := fmt.Sprintf("registry%d.test/failing:v1", i)
			d := d
			if f.kind == puller.ErrStalled { // a limit that the others could meet too
				d = start(t, func(o *jobs.Options) { o.FirstByteTimeout = 30 * time.Millisecond })
			}
			d.Engine.Script(image, f.script)
			check(t, d, d.call("POST", "/v1/pulls?wait=true", `{"image":"`+image+`","retries":0`+f.body+`}`), f.status, f.kind)
		})
	}
	t.Run("an engine that is not there", func(t *testing.T) {
		d.Engine.Kill()
		defer d.Engine.Revive()
		check(t, d, d.call("POST", "/v1/pulls?wait=true", `{"image":"failing","retries":0}`), 503, puller.ErrEngineUnavailable)
	})
	for _, end := range []struct {
		name  string
		end   func(id string)
		check func(t *testing.T, id string, got answer)
	}{
		{"a job that is canceled", func(id string) { d.call("DELETE", "/v1/jobs/"+id, "") }, func(t *testing.T, id string, got answer) {
			check(t, d, got, 409, puller.ErrCanceled)
		}},
		// The last: there is no way back. The job has not ended, so the problem
		// is not its own.
		{"a daemon that is shut down", func(string) { d.ShutDown() }, func(t *testing.T, id string, got answer) {
			if p := got.problem(t, 503, puller.ErrOverloaded); p.Job != id || !strings.Contains(p.Detail, "goes on") {
				t.Errorf("the problem is %s", got.Body)
			}
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			started := make(chan struct{})
			d.Engine.Script("failing", func(p *enginetest.Pull) {
				p.Line(`{"status":"Pulling from failing","id":"latest"}`)
				close(started)
				<-p.Gone()
			})
			answered := make(chan answer)
			go func() { answered <- d.call("POST", "/v1/pulls?wait=true", `{"image":"failing","policy":"always"}`) }()
			<-started
			jobs, _, err := d.Service.Jobs(puller.Filter{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			end.end(jobs[0].ID)
			end.check(t, jobs[0].ID, <-answered)
		})
	}
	after := d.call("POST", "/v1/pulls", `{"image":"alpine"}`)
	if p := after.problem(t, 503, puller.ErrOverloaded); p.Job != "" || strings.Contains(after.Body, `"job"`) {
		t.Errorf("a problem of no job names one: %s", after.Body)
	}
}

func TestPullStream(t *testing.T) {
	for _, media := range []string{ndjson, sse} {
		t.Run(media, func(t *testing.T) {
			d := start(t)
			gate := d.held("registry.test/app:v1")
			f := d.follow("POST", "/v1/pulls", `{"image":"registry.test/app:v1"}`, media)
			events := f.until(downloading)
			// The engine is held: what has been read was not held back for more.
			if c := d.Engine.Counts(); c.Active != 1 {
				t.Fatalf("the pull has already ended: %+v", c)
			}
			id := events[0].Job
			if got := f.resp.Header.Get("Location"); got != "/v1/jobs/"+id {
				t.Errorf("Location is %q", got)
			}
			job := d.call("GET", "/v1/jobs/"+id, "").job(t, http.StatusOK)
			if job.State != puller.StateActive || job.Phase != puller.PhasePulling || job.Progress == nil || job.Progress.Downloaded != 500 {
				t.Errorf("meanwhile the job is %+v", job)
			}
			last := events[len(events)-1]
			if last.Layer.ID != "aaaaaaaaaaaa" || last.Layer.Current != 500 || last.Layer.Total != 1000 || last.Progress.Total != 1000 {
				t.Errorf("the layer is told as %s", last.raw)
			}
			close(gate)
			events = append(events, f.rest()...)
			checkComplete(t, events, id)
			for _, e := range events {
				if e.Time.IsZero() {
					t.Errorf("an event without a time: %s", e.raw)
				}
				if numbered := e.Type != "layer" && e.Type != "heartbeat"; numbered != (e.Seq != 0) {
					t.Errorf("only states, notices, logs and results are numbered: %s", e.raw)
				}
				if media == sse && (e.name != e.Type || (e.id != "") != (e.Seq != 0) || strings.Contains(e.raw, "id: 0")) {
					t.Errorf("a frame is not of its event's type and number: %s", e.raw)
				}
			}
		})
	}
}

func TestAccept(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	for accept, want := range map[string]string{
		"*/*":                              "application/json",
		"application/json":                 "application/json",
		"application/x-ndjson;q=0":         "application/json",
		"text/html, text/event-stream":     sse,
		"application/x-ndjson; charset=x":  ndjson,
		"garbage;;;, application/x-ndjson": ndjson,
	} {
		a := d.call("POST", "/v1/pulls", `{"image":"alpine"}`, "Accept", accept)
		if got := a.Header.Get("Content-Type"); got != want {
			t.Errorf("Accept %s is answered with %s", accept, got)
		}
	}
	id := d.pull("alpine").ID
	if a := d.call("GET", "/v1/jobs/"+id+"/events", "", "Accept", "*/*"); a.Header.Get("Content-Type") != ndjson {
		t.Errorf("events are %s to one who takes anything", a.Header.Get("Content-Type"))
	}
}

func TestPullDisconnect(t *testing.T) {
	for name, header := range map[string][]string{
		"/v1/pulls?wait=true": nil,
		"/v1/pulls":           {"Accept", sse},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := startInMemory(t)
				gate := d.held("alpine")
				ctx, leave := context.WithCancel(t.Context())
				left := make(chan struct{})
				go func() {
					defer close(left)
					r, _ := http.NewRequestWithContext(ctx, "POST", d.URL+name, strings.NewReader(`{"image":"alpine"}`))
					r.Header.Set("Content-Type", "application/json")
					for i := 0; i < len(header); i += 2 {
						r.Header.Set(header[i], header[i+1])
					}
					if resp, err := d.Client.Do(r); err == nil {
						<-ctx.Done()
						resp.Body.Close()
					}
				}()
				synctest.Wait()
				if d.Open() != 1 || d.Engine.Counts().Active != 1 {
					t.Fatalf("the pull has not begun: %+v", d.Engine.Counts())
				}
				leave()
				<-left
				synctest.Wait()
				if d.Open() != 0 {
					t.Fatal("the handler does not see that its client has gone")
				}
				close(gate)
				synctest.Wait()
				jobs, _, _ := d.Service.Jobs(puller.Filter{})
				if len(jobs) != 1 || jobs[0].State != puller.StateSucceeded || d.Engine.Counts().Aborted != 0 {
					t.Errorf("the job did not go on: %+v, %+v", jobs, d.Engine.Counts())
				}
			})
		})
	}
}

func TestPullCredentials(t *testing.T) {
	d := start(t)
	const canary = "hunter2-canary"
	auth := apitest.RegistryAuth("ada", canary)
	const image = "registry.test/private:v1"
	d.Engine.Script(image, func(p *enginetest.Pull) {
		if d.Engine.LastAuth() != headerFor(t, auth, image) {
			p.Fail("unauthorized: authentication required")
			return
		}
		enginetest.Serve(enginetest.NewImage(image, 1))(p)
	})
	var said []string
	hear := func(a answer) answer {
		said = append(said, a.Body)
		for name, values := range a.Header {
			said = append(said, name+": "+strings.Join(values, ","))
		}
		return a
	}
	job := hear(d.call("POST", "/v1/pulls?wait=true", `{"image":"`+image+`"}`, "X-Registry-Auth", auth)).job(t, http.StatusOK)
	wrong := apitest.RegistryAuth("ada", canary+"-wrong")
	failed := hear(d.call("POST", "/v1/pulls?wait=true", `{"image":"`+image+`","policy":"always","retries":0}`, "X-Registry-Auth", wrong)).problem(t, 403, puller.ErrDenied)
	for _, bad := range []string{auth + "!" + canary, strings.Repeat(auth, 1000), apitest.RegistryAuth("", canary)} {
		hear(d.call("POST", "/v1/pulls", `{"image":"`+image+`"}`, "X-Registry-Auth", bad)).problem(t, 400, puller.ErrInvalidRequest)
	}
	hear(d.call("GET", "/v1/jobs", ""))
	for _, id := range []string{job.ID, failed.Job} {
		hear(d.call("GET", "/v1/jobs/"+id, ""))
		hear(d.call("GET", "/v1/jobs/"+id+"/events?since=0", ""))
		hear(d.call("GET", "/v1/jobs/"+id+"/events?since=0", "", "Accept", sse))
	}
	said = append(said, d.Logs.String())
	if d.Logs.String() == "" {
		t.Error("nothing was logged, so this proves nothing of the log")
	}
	for _, s := range said {
		for _, secret := range []string{canary, auth, wrong, auth[len(auth)/2:]} {
			if strings.Contains(s, secret) {
				t.Errorf("the secret is told: %.300s", s)
			}
		}
	}
}

func TestTraceParent(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	d := startRunning(t, enginetest.Print("", "", 0))
	d.good("alpine", 1)
	for header, want := range map[string]string{
		parent:            parent,
		"":                "",
		"00-0-0-01":       "",
		parent + "-x":     "",
		"cc" + parent[2:]: parent, // a later version
		strings.Replace(parent, "4bf92f3577b34da6a3ce929d0e0e4736", strings.Repeat("0", 32), 1): "",
	} {
		for path, body := range map[string]string{
			"/v1/pulls": `{"image":"alpine"}`, "/v1/prewarms": `{"images":["alpine"]}`, "/v1/runs": `{"image":"` + program + `"}`,
		} {
			j := d.call("POST", path, body, "traceparent", header).job(t, http.StatusAccepted)
			if j.TraceParent != want {
				t.Errorf("%s with %q is part of %q, want %q", path, header, j.TraceParent, want)
			}
			events := d.follow("GET", "/v1/jobs/"+j.ID+"/events", "", ndjson).rest()
			if last := events[len(events)-1]; last.Result == nil || last.Result.TraceParent != want {
				t.Errorf("the result is %s", last.raw)
			}
		}
	}
}
