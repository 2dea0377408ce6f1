package dockerapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// pullStream reads the apitest.Answer to a pull, as Docker's clients do.
type pullStream struct {
	t       *testing.T
	resp    *http.Response
	decoder *pullstream.Decoder
	close   func()
}

// pull sends POST /images/create. The apitest.Answer must be a stream.
func (d *daemon) pull(query string, header ...string) *pullStream {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(d.T.Context(), time.Hour)
	resp := d.Send(ctx, "POST", "/v1.41/images/create?"+query, "", header...)
	f := &pullStream{t: d.T, resp: resp, decoder: pullstream.NewDecoder(resp.Body, 0)}
	f.close = func() { cancel(); resp.Body.Close() }
	d.T.Cleanup(f.close)
	for name, want := range map[string]string{"Content-Type": "application/json", "Api-Version": "1.51", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := resp.Header.Get(name); resp.StatusCode != http.StatusOK || got != want {
			d.T.Errorf("the stream is %s with %s %q, want %q", resp.Status, name, got, want)
		}
	}
	return f
}

// until reads to the first line with a status.
func (f *pullStream) until(status string) []string {
	f.t.Helper()
	var all []string
	for {
		m, err := f.decoder.Next()
		if err != nil {
			f.t.Fatalf("the stream ended before %q: %v, after %q", status, err, all)
		}
		all = append(all, line(m))
		if strings.HasPrefix(m.Status, status) {
			return all
		}
	}
}

// rest reads to the end.
func (f *pullStream) rest() []string {
	f.t.Helper()
	var all []string
	for {
		m, err := f.decoder.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			f.t.Fatalf("the stream broke: %v, after %q", err, all)
		}
		all = append(all, line(m))
	}
}

// line is what Docker's command line prints for a message.
func line(m pullstream.Message) string {
	message, failed := m.Failure()
	switch {
	case failed:
		return "error: " + message
	case m.Detail.Current > 0:
		return fmt.Sprintf("%s: %s %d/%d", m.ID, m.Status, m.Detail.Current, m.Detail.Total)
	case m.ID != "":
		return m.ID + ": " + m.Status
	}
	return m.Status
}

func replay(recording string) enginetest.Script {
	return enginetest.Replay(transcripts.Load(recording), nil)
}

func checkLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the lines are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPull(t *testing.T) {
	d := start(t)
	image := d.serve("alpine:3.20")
	digest := enginetest.Digest(image)
	f := d.pull("fromImage=alpine&tag=3.20")
	lines := f.rest()
	if n := len(lines); n < 5 {
		t.Fatalf("the lines are %q", lines)
	}
	// Only the end of a layer is certain to be sent: events of layers are conflated.
	checkLines(t, lines[:1], "3.20: Pulling from library/alpine")
	checkLines(t, lines[len(lines)-2:], "Digest: "+digest, "Status: Downloaded newer image for alpine:3.20")
	for _, id := range []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb"} {
		if !slices.Contains(lines, id+": Pull complete") {
			t.Errorf("layer %s is not complete in %q", id, lines)
		}
	}
	id, _ := strings.CutPrefix(f.resp.Header.Get("Location"), "/v1/jobs/")
	job, err := d.Service.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if job.State != puller.StateSucceeded || job.Policy != puller.PolicyAlways || job.Image != "docker.io/library/alpine:3.20" {
		t.Errorf("the job is %+v", job)
	}
	// The image is present now. The registry is asked anyway.
	again := []string{"Pulling from library/alpine", "Digest: " + digest, "Status: Image is up to date for alpine:3.20"}
	lines = d.pull("fromImage=docker.io/library/alpine:3.20").rest()
	if lines[0] != "3.20: "+again[0] {
		t.Errorf("the lines begin with %q", lines[0])
	}
	checkLines(t, lines[len(lines)-2:], again[1:]...)
	if n := d.Engine.Counts().Pulls; n != 2 {
		t.Errorf("the engine was asked %d times", n)
	}
}

func TestPullByDigest(t *testing.T) {
	d := start(t)
	image := enginetest.NewImage("registry.test/team/app", 1)
	digest := enginetest.Digest(image)
	full := "registry.test/team/app@" + digest
	d.Engine.Script(full, enginetest.Serve(image))
	for _, query := range []string{"fromImage=registry.test/team/app&tag=" + digest, "fromImage=registry.test/team/app:v1&tag=" + digest, "fromImage=" + full} {
		lines := d.pull(query).rest()
		checkLines(t, lines[:1], full+": Pulling from team/app")
		checkLines(t, lines[len(lines)-2:len(lines)-1], "Digest: "+digest)
		if last := lines[len(lines)-1]; !strings.HasSuffix(last, " for "+full) {
			t.Errorf("the last line is %q", last)
		}
	}
	if jobs := d.jobs(); len(jobs) != 3 || slices.ContainsFunc(jobs, func(j puller.Job) bool { return j.Image != full }) {
		t.Errorf("the jobs are %+v", jobs)
	}
}

func TestPullsShareOneTransfer(t *testing.T) {
	d := start(t)
	gate := d.hold("alpine:3.20")
	const query = "fromImage=alpine&tag=3.20"
	a := d.pull(query)
	first := a.until("Downloading")
	checkLines(t, first[:1], "3.20: Pulling from library/alpine")
	checkLines(t, first[len(first)-1:], "aaaaaaaaaaaa: Downloading 500/1000")
	own := d.Send(t.Context(), "POST", "/v1/pulls", `{"image":"alpine:3.20"}`, "Accept", "application/x-ndjson")
	defer own.Body.Close()
	// A late client gets the present state.
	b := d.pull(query)
	checkLines(t, b.until("Downloading"), "3.20: Pulling from library/alpine", "aaaaaaaaaaaa: Downloading 500/1000")
	if c := d.Engine.Counts(); c.Pulls != 1 || c.Active != 1 {
		t.Errorf("it is not one transfer: %+v", c)
	}
	close(gate)
	events, err := io.ReadAll(own.Body)
	if err != nil || !strings.Contains(string(events), `"state":"succeeded"`) {
		t.Errorf("the job of Towline's own API ends with %v after\n%s", err, events)
	}
	for _, f := range []*pullStream{a, b} {
		lines := f.rest()
		if last := lines[len(lines)-1]; last != "Status: Downloaded newer image for alpine:3.20" {
			t.Errorf("the last line is %q", last)
		}
	}
	if c := d.Engine.Counts(); c.Pulls != 1 || c.Aborted != 0 {
		t.Errorf("it was not one transfer: %+v", c)
	}
}

func TestFailureBeforeTheStream(t *testing.T) {
	d := start(t)
	for _, f := range []struct {
		name, recording string
		status          int
		words           string
	}{
		{"a tag that is not there", "engine-20.10/tag-not-found", 404, "manifest unknown"},
		{"a registry that asks for credentials", "engine-20.10/unauthorized", 403, "no basic auth credentials"},
		{"a registry that is down", "engine-20.10/registry-down", 502, "refused"},
	} {
		t.Run(f.name, func(t *testing.T) {
			image := strings.TrimPrefix(f.recording, "engine-20.10/") + ".test/failing"
			d.Engine.Script(image+":v1", replay(f.recording))
			a := d.Call("POST", "/images/create?fromImage="+image+"&tag=v1", "")
			checkMessage(t, a, f.status, f.words)
			if !strings.HasPrefix(a.Header.Get("Location"), "/v1/jobs/") {
				t.Errorf("Location is %q", a.Header.Get("Location"))
			}
		})
	}
	d.Engine.Kill()
	checkMessage(t, d.Call("POST", "/images/create?fromImage=alpine&tag=v1", ""), 503, "Cannot connect")
	d.Engine.Revive()
	d.ShutDown()
	checkMessage(t, d.Call("POST", "/images/create?fromImage=alpine&tag=v1", ""), 503, "shutting down")
}

// A pull that the engine calls a success is a failure until it is proven.
func TestFailureInTheStream(t *testing.T) {
	image := enginetest.NewImage("failing:v1", 3)
	for _, f := range []struct {
		name, query, words string
		end                enginetest.Script
	}{
		{"the engine's own error", "", "no space left on device", func(p *enginetest.Pull) { p.Fail("write /x: no space left on device") }},
		{"an engine that is killed", "", "", func(p *enginetest.Pull) { p.Cut() }},
		{"an image that is missing afterwards", "", "is not there", func(p *enginetest.Pull) {
			p.Line(`{"status":"Digest: ` + enginetest.Digest(image) + `"}`)
			p.Line(`{"status":"Status: Downloaded newer image for failing:v1"}`)
		}},
		{"an image of another platform", "&platform=linux/arm64", "not linux/arm64", enginetest.Serve(image)},
		{"another image than was announced", "", "announced", func(p *enginetest.Pull) {
			p.Tag(enginetest.NewImage("failing:v1", 4))
			p.Line(`{"status":"Digest: ` + enginetest.Digest(image) + `"}`)
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			d := start(t)
			gate := make(chan struct{})
			d.Engine.Script("failing:v1", func(p *enginetest.Pull) {
				p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aaaaaaaaaaaa"}`)
				if p.Until(gate) {
					f.end(p)
				}
			})
			feed := d.pull("fromImage=failing&tag=v1" + f.query)
			feed.until("Downloading")
			close(gate)
			lines := feed.rest()
			if len(lines) == 0 {
				t.Fatal("the stream has ended without an error")
			}
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, "error: ") || !strings.Contains(last, f.words) {
				t.Errorf("the last line is %q, and should be an error of %q", last, f.words)
			}
			for _, l := range lines {
				if strings.HasPrefix(l, "Status: ") || strings.HasPrefix(l, "Digest: ") {
					t.Errorf("the stream calls it a success: %q", lines)
				}
			}
		})
	}
}

// A notice does not take the status from an error that follows soon.
func TestFailureAfterNotices(t *testing.T) {
	for _, row := range []struct {
		name   string
		takes  time.Duration
		status int
	}{{"soon", time.Second, 404}, {"late", time.Minute, 200}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := startInMemory(t, 1)
				tries := 0
				d.Engine.Script("alpine:3.20", func(p *enginetest.Pull) {
					if tries++; tries == 1 {
						replay("engine-20.10/registry-down")(p)
						return
					}
					<-time.After(row.takes)
					replay("engine-20.10/tag-not-found")(p)
				})
				resp := d.Send(t.Context(), "POST", "/images/create?fromImage=alpine&tag=3.20", "")
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != row.status || !strings.Contains(string(body), "manifest unknown") || (row.status == 200) != strings.Contains(string(body), "attempt 1 failed") {
					t.Errorf("%v, %s: %s", err, resp.Status, body)
				}
			})
		})
	}
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t, 1)
		image := enginetest.NewImage("alpine:3.20", 1)
		tries := 0
		d.Engine.Script("alpine:3.20", func(p *enginetest.Pull) {
			if tries++; tries == 1 {
				replay("engine-20.10/registry-down")(p)
				return
			}
			p.Line(`{"status":"a warning of the engine"}`)
			enginetest.Serve(image)(p)
		})
		lines := d.pull("fromImage=alpine&tag=3.20").rest()
		all := strings.Join(lines, "\n")
		for _, want := range []string{"\nattempt 1 failed (registry_unavailable", "\na warning of the engine\n", "\nStatus: Downloaded newer image for alpine:3.20"} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is missing in\n%s", want, all)
			}
		}
		if lines[0] != "3.20: Pulling from library/alpine" || strings.Count(all, "Pulling from") != 1 {
			t.Errorf("the first line is wrong:\n%s", all)
		}
	})
}

func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startInMemory(t, 0)
		gate := d.hold("alpine:3.20")
		state := func(i int) puller.State { return d.jobs()[i].State }
		const query = "fromImage=alpine&tag=3.20"
		leaver, stayer := d.pull(query), d.pull(query)
		leaver.until("Downloading")
		leaver.close()
		synctest.Wait()
		if state(0) != puller.StateCanceled || state(1) != puller.StateActive || d.Engine.Counts().Aborted != 0 || d.Open() != 1 {
			t.Errorf("one of two clients has gone: %s, %s, %+v", state(0), state(1), d.Engine.Counts())
		}
		// A client may also disconnect before the first line.
		d.Engine.Script("silent:v1", func(p *enginetest.Pull) { <-p.Gone() })
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			r, _ := http.NewRequestWithContext(ctx, "POST", d.URL+"/images/create?fromImage=silent&tag=v1", nil)
			if resp, err := d.Client.Do(r); err == nil {
				resp.Body.Close()
				t.Errorf("the apitest.Answer has begun before the first line: %s", resp.Status)
			}
		}()
		synctest.Wait()
		leave()
		<-left
		synctest.Wait()
		if state(2) != puller.StateCanceled || d.Engine.Counts().Aborted != 1 || d.Open() != 1 {
			t.Errorf("a client without an apitest.Answer has gone: %s, %+v", state(2), d.Engine.Counts())
		}
		close(gate)
		lines := stayer.rest()
		if last := lines[len(lines)-1]; last != "Status: Downloaded newer image for alpine:3.20" {
			t.Errorf("the last line for the other client is %q", last)
		}
		// The last client to disconnect ends the engine's pull.
		d.hold("other:v1")
		last := d.pull("fromImage=other&tag=v1")
		last.until("Downloading")
		last.close()
		synctest.Wait()
		if c := d.Engine.Counts(); c.Active != 0 || c.Aborted != 2 || state(3) != puller.StateCanceled {
			t.Errorf("all clients have gone: %s, %+v", state(3), c)
		}
	})
}

// Clients take an end without an error for a success.
func TestShutdown(t *testing.T) {
	d := start(t)
	d.hold("alpine:3.20")
	f := d.pull("fromImage=alpine&tag=3.20")
	f.until("Downloading")
	d.ShutDown()
	lines := f.rest()
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "error: ") || !strings.Contains(last, "goes on when it is back") {
		t.Errorf("the lines are %q", lines)
	}
}

func TestCredentials(t *testing.T) {
	d := start(t)
	const image = "registry.test/private:v1"
	d.serve(image)
	auth := apitest.RegistryAuth("ada", "hunter2-canary")
	d.pull("fromImage=registry.test/private&tag=v1", "X-Registry-Auth", auth).rest()
	credentials, err := puller.ParseCredentials(auth)
	if got := d.Engine.LastAuth(); err != nil || got != credentials.HeaderFor(image) {
		t.Errorf("the engine got %q (%v)", got, err)
	}
	raw, _ := json.Marshal(map[string]string{"username": "ada", "password": "hunter2-canary", "serveraddress": "other.test"})
	d.pull("fromImage=registry.test/private&tag=v1", "X-Registry-Auth", base64.URLEncoding.EncodeToString(raw)).rest()
	if got := d.Engine.LastAuth(); got != "" {
		t.Errorf("the engine got %q of credentials for another registry", got)
	}
	// Clients without credentials send an empty object or null.
	for _, none := range []string{"e30=", "null", "bnVsbA==", "bnVsbA", "bnVsbAo="} {
		d.pull("fromImage=registry.test/private&tag=v1", "X-Registry-Auth", none).rest()
		if got := d.Engine.LastAuth(); got != "" && got != "e30=" {
			t.Errorf("with %q the engine got %q", none, got)
		}
	}
	checkMessage(t, d.Call("POST", "/images/create?fromImage=alpine&tag=v1", "", "X-Registry-Auth", "%%%"), 400, "X-Registry-Auth: ")
	if strings.Contains(d.Logs.String(), "canary") || strings.Contains(d.Logs.String(), auth) {
		t.Error("the secret is logged")
	}
}

func TestInvalidPulls(t *testing.T) {
	d := start(t)
	long := strings.Repeat("a", 2000)
	for query, field := range map[string]string{
		"":                                     "fromImage: missing",
		"tag=3.20":                             "fromImage: missing",
		"fromImage=UPPER&tag=v1":               "fromImage: ",
		"fromImage=a%20b&tag=v1":               "fromImage: ",
		"fromImage=" + long + "&tag=v1":        "fromImage: ",
		"fromImage=" + long[:64] + "&tag=v1":   "fromImage: ",
		"fromImage=alpine:&tag=v1":             "fromImage: ",
		"fromImage=sha256:" + long[:64]:        "fromImage: ",
		"fromImage=sha256&tag=" + long[:64]:    "fromImage: ",
		"fromImage=sha256:" + long[:12]:        "fromImage: ",
		"fromImage=alpine":                     "tag: missing, which asks for all tags of alpine",
		"fromImage=alpine&tag=":                "tag: missing",
		"fromImage=alpine&tag=-x":              "tag: ",
		"fromImage=alpine&tag=" + long:         "tag: ",
		"fromImage=alpine&tag=sha256:12":       "tag: ",
		"fromImage=alpine&tag=3.20&platform=x": "platform: ",
		"fromSrc=-&repo=mine":                  "fromSrc: towline pulls and does not import",
		"fromSrc=http://x.test/y.tar":          "fromSrc: ",
		"fromImage=alpine&tag=v1&repo=mine":    "repo: ",
		"fromImage=alpine&tag=v1&message=hi":   "message: ",
		"fromImage=alpine&tag=v1&changes=CMD":  "changes: ",
		"fromImage=alpine&tag=%zz":             "query: ",
		"fromImage=alpine;tag=v1":              "query: ",
	} {
		a := d.Call("POST", "/v1.41/images/create?"+query, "")
		checkMessage(t, a, 400, field)
		if !strings.HasPrefix(a.Body, `{"message":"`+field) || len(a.Body) > 600 {
			t.Errorf("%.100s is refused with %s", query, a.Body)
		}
	}
	checkMessage(t, d.Call("POST", "/images/create?fromImage=alpine&tag=v1", strings.Repeat(" ", 1<<20+1)), 400, "body: larger")
	if jobs := d.jobs(); len(jobs) != 0 {
		t.Errorf("%d jobs were submitted, such as %+v", len(jobs), jobs[0])
	}
	// Parameters that dockerd ignores are ignored.
	d.serve("alpine:3.20")
	lines := d.pull("fromImage=alpine&tag=3.20&registry=x&repo=&platform=").rest()
	if last := lines[len(lines)-1]; last != "Status: Downloaded newer image for alpine:3.20" {
		t.Errorf("the last line is %q", last)
	}
}
