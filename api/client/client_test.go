package client_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/go-connections/sockets"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves a handler on connections in memory, and returns a client of it.
func serve(t *testing.T, h http.Handler) *client.Client {
	t.Helper()
	l := sockets.NewInmemSocket("towline", 0)
	server := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	c, err := client.New("http://towline.test", "secret-token")
	if err != nil {
		t.Fatal(err)
	}
	c.DialWith(l.DialContext)
	t.Cleanup(func() {
		c.Close()
		server.Close()
		serving.Wait()
	})
	return c
}

// daemon returns the API over a scripted engine.
func daemon(t *testing.T) (http.Handler, *enginetest.Engine) {
	t.Helper()
	scripted := enginetest.New(t)
	engine, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	p, err := jobs.New(engine, jobs.Options{Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close(context.Background())
		engine.Close()
	})
	return contracttest.Wrap(t, api.New(p, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Runs: true, Open: true})), scripted
}

func credentials(t *testing.T) puller.Credentials {
	t.Helper()
	c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"x"}`)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPullJobsAndEngine(t *testing.T) {
	h, engine := daemon(t)
	c := serve(t, h)
	ctx := t.Context()
	auth := credentials(t)
	engine.Script("alpine", enginetest.Serve(enginetest.NewImage("alpine", 1)))
	retries := 2
	request := client.PullRequest{
		Image: "alpine", Platform: "linux/amd64", Policy: puller.PolicyAlways, Priority: puller.PriorityHigh,
		Timeout: puller.Duration(time.Minute), Retries: &retries, Credentials: auth,
	}
	job, err := c.Pull(ctx, request)
	got := puller.Job{State: job.State, Platform: job.Platform, Policy: job.Policy, Priority: job.Priority}
	want := puller.Job{State: puller.StateSucceeded, Platform: "linux/amd64", Policy: puller.PolicyAlways, Priority: puller.PriorityHigh}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if engine.LastAuth() != auth.HeaderFor("docker.io/library/alpine:latest") {
		t.Errorf("the engine has got the credentials %q", engine.LastAuth())
	}
	second, err := c.Submit(ctx, client.PullRequest{Image: "alpine"})
	if err != nil || second.ID == job.ID {
		t.Errorf("%+v, %v", second, err)
	}
	if got, err := c.Job(ctx, job.ID); err != nil || got.ID != job.ID || got.Result == nil || *got.Result != *job.Result {
		t.Errorf("%+v, %v", got, err)
	}
	page, next, err := c.Jobs(ctx, puller.Filter{State: puller.StateSucceeded, Kind: "pull", Image: "alpine", Limit: 1, Cursor: second.ID})
	if err != nil || len(page) != 1 || page[0].ID != job.ID || next != "" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	if _, next, err = c.Jobs(ctx, puller.Filter{Limit: 1}); err != nil || next != second.ID {
		t.Errorf("next is %q, %v", next, err)
	}
	if info, err := c.Engine(ctx); err != nil || !info.Reachable {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestRun(t *testing.T) {
	h, engine := daemon(t)
	var keys []string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			keys = append(keys, r.URL.String()+" "+r.Header.Get("Idempotency-Key")+" "+r.Header.Get("X-Registry-Auth"))
		}
		h.ServeHTTP(w, r)
	}))
	auth := credentials(t)
	image := enginetest.NewImage("alpine", 1)
	engine.Script("alpine", enginetest.Serve(image))
	var asked enginetest.ContainerRequest
	engine.Program(image.ID, func(p *enginetest.Process) int {
		asked = p.Requested
		return 7
	})
	job, err := c.Run(t.Context(), client.RunRequest{
		Image: "alpine", Platform: "linux/amd64", Policy: puller.PolicyAlways, Cmd: []string{"a", ""}, Entrypoint: []string{"/b"}, Env: map[string]string{"C": "d=e"},
		Workdir: "/f", User: "g", TTY: true, Network: "none", Memory: 64 << 20, CPUs: 0.5, Pids: 9, Timeout: puller.Duration(time.Minute),
		Credentials: auth, IdempotencyKey: "one",
	})
	if err != nil || job.Kind != puller.JobRun || job.Policy != puller.PolicyAlways {
		t.Fatalf("%+v, %v", job, err)
	}
	var last puller.Event
	for e, err := range c.Events(t.Context(), job.ID) {
		if err != nil {
			t.Fatal(err)
		}
		last = e
	}
	if r := last.Result; r == nil || r.Result == nil || *r.Result.ExitCode != 7 {
		t.Errorf("the last event is %+v", last)
	}
	host := asked.HostConfig
	got := map[string]any{
		"cmd": asked.Cmd, "entrypoint": asked.Entrypoint, "env": asked.Env, "workdir": asked.WorkingDir, "user": asked.User, "tty": asked.Tty,
		"network": string(host.NetworkMode), "memory": host.Memory, "cpus": host.NanoCpus, "pids": *host.PidsLimit,
	}
	want := map[string]any{
		"cmd": []string{"a", ""}, "entrypoint": []string{"/b"}, "env": []string{"C=d=e"}, "workdir": "/f", "user": "g", "tty": true,
		"network": "none", "memory": int64(64 << 20), "cpus": int64(5e8), "pids": int64(9),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the container (-want +got):\n%s", diff)
	}
	if want := []string{"/v1/runs one " + auth.Header()}; !slices.Equal(keys, want) || engine.LastAuth() != auth.HeaderFor("docker.io/library/alpine:latest") {
		t.Errorf("sent is %q", keys)
	}
	_, err = c.Run(t.Context(), client.RunRequest{Image: "alpine", Network: "host"})
	if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), "network") {
		t.Errorf("a bad request: %v", err)
	}
}

func TestPrewarm(t *testing.T) {
	h, engine := daemon(t)
	keys := make(map[string]string)
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			keys[r.URL.String()] = r.Header.Get("Idempotency-Key") + " " + r.Header.Get("X-Registry-Auth")
		}
		h.ServeHTTP(w, r)
	}))
	ctx := t.Context()
	auth := credentials(t)
	engine.Script("alpine", enginetest.Serve(enginetest.NewImage("alpine", 1)))
	retries := 0
	request := client.PrewarmRequest{
		Images: []client.PullRequest{{Image: "alpine", Platform: "linux/amd64", Timeout: puller.Duration(time.Minute)}, {Image: "nope:v1"}},
		Policy: puller.PolicyAlways, Priority: puller.PriorityLow, Retries: &retries, FailFast: false, Credentials: auth, IdempotencyKey: "one",
	}
	job, err := c.Prewarm(ctx, request)
	if err != nil || job.Kind != puller.JobPrewarm || len(job.Children) != 2 || job.Priority != puller.PriorityLow || len(job.Images) != 2 {
		t.Fatalf("%+v, %v", job, err)
	}
	if again, err := c.Prewarm(ctx, request); err != nil || again.ID != job.ID {
		t.Errorf("the same key gives %+v, %v", again, err)
	}
	var last puller.Event
	for e, err := range c.Events(ctx, job.ID) {
		if err != nil {
			t.Fatal(err)
		}
		last = e
	}
	if r := last.Result; r == nil || r.State != puller.StateFailed || r.Images[0].State != puller.StateSucceeded || r.Images[1].Error.Kind != puller.ErrNotFound {
		t.Errorf("the last event is %+v", last)
	}
	if engine.LastAuth() != auth.HeaderFor("docker.io/library/alpine:latest") {
		t.Errorf("the engine has got the credentials %q", engine.LastAuth())
	}
	child, err := c.Job(ctx, job.Children[0])
	if err != nil || child.Platform != "linux/amd64" || child.Policy != puller.PolicyAlways || child.Parent != job.ID {
		t.Errorf("%+v, %v", child, err)
	}
	if _, err := c.Plan(ctx, request); err != nil {
		t.Error(err)
	}
	if _, err := c.Submit(ctx, client.PullRequest{Image: "alpine", IdempotencyKey: "two"}); err != nil {
		t.Error(err)
	}
	want := map[string]string{"/v1/prewarms": "one " + auth.Header(), "/v1/prewarms?dry_run=true": " " + auth.Header(), "/v1/pulls": "two "}
	if !maps.Equal(keys, want) {
		t.Errorf("the headers are %q", keys)
	}
	if _, err := c.Prewarm(ctx, client.PrewarmRequest{}); puller.KindOf(err) != puller.ErrInvalidRequest {
		t.Errorf("a prewarm of nothing: %v", err)
	}
}

func TestPlan(t *testing.T) {
	const plan = `{"images":[{"image":"docker.io/library/alpine:3.20","policy":"missing","status":"missing","digest":"sha256:1d",` +
		`"size":3,"fetch":2,"layers":2,"layers_present":1,"layers_shared":0},` +
		`{"image":"nope:v1","policy":"never","status":"missing","error":{"kind":"not_found","message":"nope","retryable":false}}],` +
		`"fetch":2,"shared":0,"present":1,"complete":true,"engine_free":7,"notes":["a note"]}`
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); r.URL.String() != "/v1/prewarms?dry_run=true" || string(body) != `{"images":[{"image":"alpine"}]}` {
			t.Errorf("asked is %s: %s", r.URL, body)
		}
		io.WriteString(w, plan)
	}))
	got, err := c.Plan(t.Context(), client.PrewarmRequest{Images: []client.PullRequest{{Image: "alpine"}}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if diff := cmp.Diff(plan, string(again)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestErrorKinds(t *testing.T) {
	h, engine := daemon(t)
	c := serve(t, h)
	ctx := t.Context()
	engine.Script("alpine", enginetest.Serve(enginetest.NewImage("alpine", 1)))
	ended, err := c.Pull(ctx, client.PullRequest{Image: "alpine"})
	if err != nil {
		t.Fatal(err)
	}
	only := func(_ any, err error) error { return err }
	for name, row := range map[string]struct {
		err  error
		kind puller.ErrorKind
		word string
	}{
		"a bad request":            {only(c.Submit(ctx, client.PullRequest{Image: "a b"})), puller.ErrInvalidRequest, "image: "},
		"a pull that fails":        {only(c.Pull(ctx, client.PullRequest{Image: "registry.test/nope:v1"})), puller.ErrNotFound, "manifest unknown"},
		"an unknown job":           {only(c.Job(ctx, "nope")), puller.ErrNotFound, "nope"},
		"an ID that is no segment": {only(c.Job(ctx, "a/b?c")), puller.ErrNotFound, "a/b?c"},
		"the cancel of an end":     {only(c.Cancel(ctx, ended.ID)), puller.ErrConflict, "succeeded"},
	} {
		var e *puller.Error
		if !errors.As(row.err, &e) || e.Kind != row.kind || !strings.Contains(e.Error(), row.word) {
			t.Errorf("%s: %v", name, row.err)
		}
	}
}

func TestErrorRetryAfter(t *testing.T) {
	for _, kind := range []puller.ErrorKind{"unauthorized", "rate_limited", "overloaded", "a_kind_of_a_newer_daemon"} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret-token" {
				t.Errorf("the token is not shown: %v", r.Header)
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprintf(w, `{"kind":%q,"detail":"a detail with 100%% in it","status":429}`, kind)
		}))
		_, err := c.Submit(t.Context(), client.PullRequest{Image: "alpine"})
		var e *puller.Error
		if !errors.As(err, &e) || e.Kind != kind || e.RetryAfter != 7*time.Second || e.Error() != "a detail with 100% in it" {
			t.Errorf("%s: %#v", kind, err)
		}
	}
}

func TestForeignAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		word   string
	}{
		"a page not found":     {404, "404 page not found", "does not come from a towline daemon"},
		"a proxy's error":      {502, "<html>Bad Gateway</html>", "502 Bad Gateway"},
		"another API's error":  {400, `{"message":"no"}`, "does not come from a towline daemon"},
		"a listener with TLS":  {400, "The request came without TLS; use https://\n", "asks for TLS there; write https://"},
		"a redirect to no end": {302, "", "302 Found"},
		"a page":               {200, "<html>Welcome</html>", "http://towline.test"},
		"nothing":              {200, "", "http://towline.test"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(row.status)
				io.WriteString(w, row.body)
			}))
			_, err := c.Job(t.Context(), "x")
			if err == nil || !strings.Contains(err.Error(), row.word) {
				t.Error(err)
			}
			if gone := isUnreachable(err); gone != (row.status == 200) || !gone && puller.KindOf(err) != puller.ErrInternal {
				t.Errorf("%#v", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	const closed = "127.0.0.1:1" // nobody listens here; a port that is free now may be taken later
	// A daemon that dies in the middle of a call.
	path := filepath.Join(t.TempDir(), "s")
	dying, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer dying.Close()
	accepting.Go(func() {
		for {
			conn, err := dying.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	})
	for _, host := range []string{"unix:///nowhere/towline.sock", "http://" + closed, "http://" + closed + "/", "unix://" + path} {
		c, err := client.New(host, "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Job(t.Context(), "x")
		var gone *client.Unreachable
		if !errors.As(err, &gone) || gone.Host != host || gone.Err == nil || !strings.Contains(err.Error(), host) {
			t.Errorf("%s: %v", host, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Job(ctx, "x"); !errors.Is(err, context.Canceled) || errors.As(err, &gone) {
			t.Errorf("%s, canceled: %#v", host, err)
		}
	}
}

func TestUnreachableText(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: "/s"}, Err: err}
	}
	for want, err := range map[string]error{
		"no towline daemon answers at unix:///s: no such file or directory":      dial(syscall.ENOENT),
		"no access to the towline daemon at unix:///s: permission denied":        dial(syscall.EACCES),
		"no towline daemon answers at unix:///s: read: connection reset by peer": &net.OpError{Op: "read", Err: syscall.ECONNRESET},
	} {
		if got := (&client.Unreachable{Host: "unix:///s", Err: err}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNewRefusesBadHosts(t *testing.T) {
	for _, host := range []string{"towline.sock", "/run/towline.sock", "unix://", "unix://run/towline.sock", "tcp://127.0.0.1:1", "http://", "https:///x", "http://a b", "::"} {
		if c, err := client.New(host, ""); err == nil {
			t.Errorf("%q is taken as %+v", host, c)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", host)) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// cutting cuts one stream of events after each budget of bytes.
type cutting struct {
	next    http.Handler
	budgets []int
	asked   []string // the queries of the streams
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/events") {
		c.asked = append(c.asked, r.URL.RawQuery)
		if len(c.budgets) > 0 {
			w = &cutWriter{w, c.budgets[0]}
			c.budgets = c.budgets[1:]
		}
	}
	c.next.ServeHTTP(w, r)
}

// cutWriter is a response whose connection is cut.
type cutWriter struct {
	http.ResponseWriter
	budget int
}

func (w *cutWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return &cutConn{Conn: conn, budget: w.budget}, rw, err
}

// cutConn is cut after some bytes of the body.
type cutConn struct {
	net.Conn
	budget int
	begun  bool // the header was written
}

func (c *cutConn) Write(p []byte) (int, error) {
	if !c.begun {
		c.begun = true
		return c.Conn.Write(p)
	}
	if len(p) <= c.budget {
		c.budget -= len(p)
		return c.Conn.Write(p)
	}
	n, _ := c.Conn.Write(p[:c.budget])
	return n, errors.New("cut")
}

func TestEventsAfterCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, engine := daemon(t)
		cut := &cutting{next: h, budgets: []int{0, 50, 200, 333, 500, 0, 1000, 1}}
		cuts := len(cut.budgets)
		c := serve(t, cut)
		gate := make(chan struct{})
		engine.Script("alpine", func(p *enginetest.Pull) {
			for i := range 10 {
				p.Line(fmt.Sprintf(`{"status":"note %d"}`, i))
			}
			if p.Until(gate) {
				for i := range 10 {
					p.Line(fmt.Sprintf(`{"status":"late note %d"}`, i))
				}
				enginetest.Serve(enginetest.NewImage("alpine", 1))(p)
			}
		})
		job, err := c.Submit(t.Context(), client.PullRequest{Image: "alpine"})
		if err != nil {
			t.Fatal(err)
		}
		var seen []uint64
		var last puller.Event
		for e, err := range c.Events(t.Context(), job.ID) {
			if err != nil {
				t.Fatal(err)
			}
			if last = e; e.Seq != 0 {
				seen = append(seen, e.Seq)
			}
			if e.Message == "note 5" {
				close(gate)
			}
		}
		if last.Result == nil || last.Result.State != puller.StateSucceeded {
			t.Errorf("the last event is %+v", last)
		}
		if len(cut.asked) != cuts+1 {
			t.Errorf("%d cuts, asked with %q", cuts, cut.asked)
		}
		// The record from the first event that was seen.
		var want []uint64
		for e, err := range record(t, c, job.ID) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Seq >= seen[0] {
				want = append(want, e.Seq)
			}
		}
		if !slices.Equal(seen, want) || len(seen) < 20 {
			t.Errorf("seen are %d, want %d (asked with %q)", seen, want, cut.asked)
		}
	})
}

// record reads the whole record of a job.
func record(t *testing.T, c *client.Client, id string) func(func(puller.Event, error) bool) {
	t.Helper()
	return func(yield func(puller.Event, error) bool) {
		resp, err := c.Get(t.Context(), "/v1/jobs/"+id+"/events?since=0")
		if err != nil {
			yield(puller.Event{}, err)
			return
		}
		defer resp.Body.Close()
		for d := json.NewDecoder(resp.Body); d.More(); {
			var e puller.Event
			if err := d.Decode(&e); !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func TestEventsGiveUp(t *testing.T) {
	for name, row := range map[string]struct {
		answer func(w http.ResponseWriter)
		asked  int
		check  func(err error) bool
	}{
		"a cut each time":   {func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, 61, isUnreachable},
		"a clean early end": {func(w http.ResponseWriter) {}, 61, isUnreachable},
		"half an event":     {func(w http.ResponseWriter) { io.WriteString(w, `{"seq":1,"type":"sta`) }, 61, isUnreachable},
		"a proxy that waits for it": {func(w http.ResponseWriter) { w.WriteHeader(502) }, 61, func(err error) bool {
			return puller.KindOf(err) == puller.ErrInternal && strings.Contains(err.Error(), "502 Bad Gateway")
		}},
		"a daemon that takes no more": {func(w http.ResponseWriter) {
			w.WriteHeader(503)
			io.WriteString(w, `{"kind":"overloaded","detail":"towline is shutting down"}`)
		}, 61, func(err error) bool { return puller.KindOf(err) == puller.ErrOverloaded }},
		"a page of someone else": {func(w http.ResponseWriter) { w.WriteHeader(500) }, 1, func(err error) bool { return puller.KindOf(err) == puller.ErrInternal }},
		"an error of its own": {func(w http.ResponseWriter) {
			w.WriteHeader(404)
			io.WriteString(w, `{"kind":"not_found","detail":"no such job"}`)
		}, 1, func(err error) bool { return puller.KindOf(err) == puller.ErrNotFound }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked++
					row.answer(w)
				}))
				var errs []error
				for _, err := range c.Events(t.Context(), "x") {
					errs = append(errs, err)
				}
				if asked != row.asked || len(errs) != 1 || !row.check(errs[0]) {
					t.Errorf("%d requests, and the errors %v", asked, errs)
				}
			})
		})
	}
}

func TestEventsAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		since := func(d time.Duration) bool { return time.Since(began) >= d }
		var asked []string
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			query := r.URL.RawQuery
			if len(asked) == 0 || asked[len(asked)-1] != query {
				asked = append(asked, query)
			}
			switch {
			case query == "since=0":
				io.WriteString(w, `{"seq":7,"type":"notice","job":"x","message":"towline is shutting down"}`+"\n"+`{"type":"heartbeat","job":"x"}`+"\n")
			case !since(50 * time.Second):
				panic(http.ErrAbortHandler) // there is no daemon
			case query == "since=7": // and it goes again
				io.WriteString(w, `{"seq":9,"type":"notice","job":"x","message":"towline has started again"}`+"\n")
			case !since(100 * time.Second):
				panic(http.ErrAbortHandler)
			default:
				message := strings.Repeat("x", 4<<20)
				io.WriteString(w, `{"seq":12,"type":"result","job":"x","result":{"state":"failed","error":{"message":"`+message+`"}}}`+"\n")
			}
		}))
		var seen []uint64
		for e, err := range c.Events(t.Context(), "x") {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, e.Seq)
		}
		if !slices.Equal(seen, []uint64{7, 0, 9, 12}) || !slices.Equal(asked, []string{"since=0", "since=7", "since=9"}) {
			t.Errorf("seen are %d, asked was %q", seen, asked)
		}
	})
}

func isUnreachable(err error) bool {
	var gone *client.Unreachable
	return errors.As(err, &gone)
}

func TestEventsStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, engine := daemon(t)
		c := serve(t, h)
		engine.Script("alpine", func(p *enginetest.Pull) { <-p.Gone() })
		job, err := c.Submit(t.Context(), client.PullRequest{Image: "alpine"})
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range c.Events(t.Context(), job.ID) {
			if err != nil || e.Type != "state" {
				t.Errorf("%+v, %v", e, err)
			}
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range c.Events(ctx, job.ID) {
			last = err
			cancel()
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("it ended with %v", last)
		}
		if job, err := c.Job(t.Context(), job.ID); err != nil || job.State.Ended() {
			t.Errorf("a reader that left has ended the job: %+v, %v", job, err)
		}
	})
}

// with returns a request with what only the daemon sets.
