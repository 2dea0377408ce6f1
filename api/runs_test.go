package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
)

const program = "registry.test/program:v1"

// startRunning serves the API with an image whose program is p.
func startRunning(t *testing.T, p enginetest.Program, change ...func(*jobs.Options)) *daemon {
	t.Helper()
	output := t.TempDir()
	d := start(t, append(change, func(o *jobs.Options) {
		o.OutputDir, o.OutputLimit, o.Runs = output, 1<<20, 4
	})...)
	d.Engine.Program(d.good(program, 1).ID, p)
	return d
}

func (d *daemon) run(more string) puller.Job {
	d.T.Helper()
	return d.call("POST", "/v1/runs", `{"image":"`+program+`"`+more+`}`).job(d.T, http.StatusAccepted)
}

func TestRunWait(t *testing.T) {
	for code := range 2 {
		d := startRunning(t, enginetest.Print("out", "err", code))
		a := d.call("POST", "/v1/runs?wait=true", `{"image":"`+program+`","cmd":["a"],"env":{"A":"b"},"memory":"512m","cpus":0.5,"pids":10,"network":"none","workdir":"/","user":"1","tty":false,"timeout":"1m","entrypoint":[]}`)
		job := a.job(t, http.StatusOK)
		if job.Kind != puller.JobRun || job.State != puller.StateSucceeded || job.Result.ExitCode == nil || *job.Result.ExitCode != code {
			t.Errorf("the job is %s", a.Body)
		}
		if want := fmt.Sprintf(`"exit_code":%d`, code); !strings.Contains(a.Body, want) {
			t.Errorf("%s is not in %s", want, a.Body)
		}
	}
}

func TestRunStream(t *testing.T) {
	d := startRunning(t, enginetest.Print("out\n", "err\xff", 3))
	for _, media := range []string{ndjson, sse} {
		events := d.follow("POST", "/v1/runs", `{"image":"`+program+`"}`, media).rest()
		checkComplete(t, events, events[0].Job)
		raw := ""
		for _, e := range events {
			raw += e.raw
		}
		for _, want := range []string{`"stream":"stdout","text":"out\n"`, `"stream":"stderr","text":"ZXJy/w==","encoding":"base64"`, `"phase":"running"`, `"exit_code":3`} {
			if !strings.Contains(raw, want) {
				t.Errorf("%s is not in\n%s", want, raw)
			}
		}
	}
}

func TestInvalidRuns(t *testing.T) {
	d := startRunning(t, nil)
	long := strings.Repeat("x", 128<<10)
	for body, field := range map[string]string{
		`{}`:                                   "image",
		`{"image":"x","env":{"":"x"}}`:         "env",
		`{"image":"x","env":{"A=B":"x"}}`:      "env",
		`{"image":"x","env":{"A":1}}`:          "env",
		`{"image":"x","env":["A=B"]}`:          "env",
		`{"image":"x","cmd":["\u0000"]}`:       "cmd",
		`{"image":"x","cmd":"ls"}`:             "cmd",
		`{"image":"x","cmd":["` + long + `"]}`: "cmd",
		`{"image":"x","cmd":["` + strings.Repeat(`x","`, 140<<10) + `"]}`: "cmd",
		`{"image":"x","memory":"x"}`:                                      "memory",
		`{"image":"x","memory":-1}`:                                       "memory",
		`{"image":"x","memory":"-5m"}`:                                    "memory",
		`{"image":"x","memory":true}`:                                     "memory",
		`{"image":"x","memory":[]}`:                                       "memory",
		`{"image":"x","memory":"99999999999999g"}`:                        "memory",
		`{"image":"x","memory":"0.5"}`:                                    "memory",
		`{"image":"x","memory":0.5}`:                                      "memory",
		`{"image":"x","memory":"0.0000001k"}`:                             "memory",
		`{"image":"x","memory":1e-400}`:                                   "memory",
		`{"image":"x","memory":"0x.ap-0"}`:                                "memory",
		`{"image":"x","memory":"1e30"}`:                                   "memory",
		`{"image":"x","memory":"9223372036854775807"}`:                    "memory",
		`{"image":"x","cpus":1e-400}`:                                     "cpus",
		`{"image":"x","cpus":-1e-400}`:                                    "cpus",
		`{"image":"x","cpus":0.001}`:                                      "cpus",
		`{"image":"x","cpus":"1"}`:                                        "cpus",
		`{"image":"x","cpus":true}`:                                       "cpus",
		`{"image":"x","pids":0.5}`:                                        "pids",
		`{"image":"x","pids":1e-400}`:                                     "pids",
		`{"image":"x","cpus":"NaN"}`:                                      "cpus",
		`{"image":"x","cpus":-1}`:                                         "cpus",
		`{"image":"x","cpus":1e300}`:                                      "cpus",
		`{"image":"x","pids":-1}`:                                         "pids",
		`{"image":"x","pids":1.5}`:                                        "pids",
		`{"image":"x","network":"host"}`:                                  "network",
		`{"image":"x","workdir":"a/b"}`:                                   "workdir",
		`{"image":"x","user":5}`:                                          "user",
		`{"image":"x","timeout":"x"}`:                                     "timeout",
		`{"image":"x","timeout":5}`:                                       "timeout",
		`{"image":"x","privileged":true}`:                                 "privileged",
		`{"image":"x","volumes":["/:/host"]}`:                             "volumes",
		`{"image":"x","cap_add":["ALL"]}`:                                 "cap_add",
		`{"image":"x","HostConfig":{}}`:                                   "HostConfig",
		`{"image":"x","devices":[]}`:                                      "devices",
		`{"image":"x","priority":"high"}`:                                 "priority",
	} {
		p := d.call("POST", "/v1/runs", body).problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
		if !strings.HasPrefix(p.Detail, field+":") || len(p.Detail) > 500 {
			t.Errorf("%.100s is refused with %.600s", body, p.Detail)
		}
	}
}

func TestRunMemory(t *testing.T) {
	d := startRunning(t, nil)
	for size, want := range map[string]int64{`8000000`: 8000000, `"512m"`: 512 << 20, `"1GiB"`: 1 << 30, `"0"`: 0, `0`: 0} {
		d.Engine.Program(enginetest.NewImage(program, 1).ID, enginetest.Hang(""))
		j := d.run(`,"memory":` + size)
		f := d.follow("GET", "/v1/jobs/"+j.ID+"/events?since=0", "", ndjson)
		f.until(func(e told) bool { return e.Phase == puller.PhaseRunning })
		if c := d.Engine.Containers(); c[0].Requested.HostConfig.Memory != want {
			t.Errorf("%s are %d bytes", size, c[0].Requested.HostConfig.Memory)
		}
		d.call("DELETE", "/v1/jobs/"+j.ID, "")
	}
}

func TestRunsDisabled(t *testing.T) {
	d := start(t)
	h := newHandler(t, d.Service, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Open: true})
	for _, path := range []string{"/v1/runs", "/v1/runs?wait=true"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(`{"image":"x"}`)))
		answer{apitest.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}}.problem(t, http.StatusForbidden, puller.ErrForbidden)
	}
}

func TestLogsAreOfRuns(t *testing.T) {
	d := startRunning(t, nil)
	pull, run := d.pull(program), d.run("")
	d.call("GET", "/v1/jobs/"+pull.ID+"/logs", "").problem(t, http.StatusNotFound, puller.ErrNotFound)
	d.call("GET", "/v1/jobs/01KAKM00000000000000000000/logs", "").problem(t, http.StatusNotFound, puller.ErrNotFound)
	for _, query := range []string{"stream=bad", "stream=Stdout", "streams=stdout", "stream=stdout&stream=stderr"} {
		p := d.call("GET", "/v1/jobs/"+run.ID+"/logs?"+query, "").problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
		if !strings.HasPrefix(p.Detail, "stream") {
			t.Errorf("%s is refused with %s", query, p.Detail)
		}
	}
}

// checkLogs checks what /logs has of a run that has ended.
func (d *daemon) checkLogs(id string, want map[string]string) {
	d.T.Helper()
	for query, text := range want {
		a := d.call("GET", "/v1/jobs/"+id+"/logs"+query, "")
		if a.Status != http.StatusOK || a.Body != text || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			d.T.Errorf("%q is answered with %d and %q", query, a.Status, a.Body)
		}
	}
	if a := d.call("HEAD", "/v1/jobs/"+id+"/logs", ""); a.Status != http.StatusOK || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		d.T.Errorf("HEAD is answered with %d and %v", a.Status, a.Header)
	}
}

func TestLogsComeAsTheyArePrinted(t *testing.T) {
	step := make(chan struct{})
	d := startRunning(t, func(p *enginetest.Process) int {
		for i := range 3 {
			fmt.Fprintf(p.Stdout(), "out %d\n", i)
			fmt.Fprintf(p.Stderr(), "\xff%d", i)
			if !p.Until(step) {
				return 1
			}
		}
		return 0
	})
	j := d.run("")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	resp := d.Send(ctx, "GET", "/v1/jobs/"+j.ID+"/logs?stream=stdout", "")
	defer resp.Body.Close()
	for i := range 3 {
		got := make([]byte, 6)
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != fmt.Sprintf("out %d\n", i) {
			t.Fatalf("it got %q, %v", got, err)
		}
		step <- struct{}{}
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("in the end it got %q, %v", rest, err)
	}
	d.ended(j.ID)
	d.checkLogs(j.ID, map[string]string{"?stream=stdout": "out 0\nout 1\nout 2\n", "?stream=stderr": "\xff0\xff1\xff2"})
}

// A client that reads to the end of a body must not take a part for the whole.
func TestLogsThatAreCutEndAsAnError(t *testing.T) {
	d := startRunning(t, enginetest.Hang("part"))
	j := d.run("")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	resp := d.Send(ctx, "GET", "/v1/jobs/"+j.ID+"/logs", "")
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	d.ShutDown()
	if rest, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ends with %q, %v", rest, err)
	}
}

// More is printed than is kept, and is read afterwards.
func TestLogsTellOfAGap(t *testing.T) {
	d := startRunning(t, func(p *enginetest.Process) int {
		for i := range 400 {
			fmt.Fprintf(p.Stdout(), "%0*d\n", 16<<10, i)
		}
		return 0
	})
	j := d.run("")
	d.ended(j.ID)
	for _, query := range []string{"", "?stream=stdout", "?stream=stderr"} {
		a := d.call("GET", "/v1/jobs/"+j.ID+"/logs"+query, "")
		if !strings.HasPrefix(a.Body, "\ntowline: some of the output is missing here\n") || strings.Count(a.Body, "towline:") != 1 {
			t.Errorf("%q: the output begins with %.80q", query, a.Body)
		}
		if whole := strings.HasSuffix(a.Body, "399\n"); whole != (query != "?stream=stderr") {
			t.Errorf("%q: the output does not end as it was printed", query)
		}
	}
}

func TestLogsOfForgottenJob(t *testing.T) {
	store, output := storetest.New(), t.TempDir()
	here := func(o *jobs.Options) { o.Store, o.OutputDir, o.OutputLimit = store, output, 1<<20 }
	d := start(t, here)
	d.Engine.Program(d.good(program, 1).ID, enginetest.Print("out", "\xe2\x82err", 0))
	want := map[string]string{"?stream=stdout": "out", "?stream=stderr": "\xe2\x82err"}
	j := d.run("")
	d.ended(j.ID)
	d.checkLogs(j.ID, want)
	for range 101 {
		d.ended(d.pull(program).ID)
	}
	d.checkLogs(j.ID, want)
	d.ShutDown()
	store = store.Reopen()
	start(t, here).checkLogs(j.ID, want)
}

func TestLogsReaderGoes(t *testing.T) {
	step := make(chan struct{})
	d := startRunning(t, func(p *enginetest.Process) int {
		io.WriteString(p.Stdout(), "up")
		p.Until(step)
		return 0
	})
	j := d.run("")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	resp := d.Send(ctx, "GET", "/v1/jobs/"+j.ID+"/logs", "")
	if _, err := io.ReadFull(resp.Body, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	for began := time.Now(); d.Open() > 0; {
		if time.Since(began) > limit {
			t.Fatal("its handler is still there")
		}
		<-time.After(time.Millisecond)
	}
	close(step)
	if v := d.ended(j.ID); v.State != puller.StateSucceeded {
		t.Errorf("the run is %s: %+v", v.State, v.Error)
	}
}
