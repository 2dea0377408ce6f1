package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/go-connections/sockets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is all of Towline's API over a scripted engine.
type daemon struct {
	t      *testing.T
	engine *enginetest.Engine
	puller *jobs.Service
	client *http.Client
	url    string
	logs   *safeBuffer
	server *api.Server
	opened atomic.Int64 // requests whose handler runs
}

// open returns how many requests are being answered.
func (d *daemon) open() int64 { return d.opened.Load() + int64(d.server.Streams()) }

// start serves the API over TCP.
func start(t *testing.T, change ...func(*jobs.Options)) *daemon {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, (&net.Dialer{}).DialContext, change...)
}

// startInMemory serves the API on connections in memory, for tests in a
// synctest bubble.
func startInMemory(t *testing.T, change ...func(*jobs.Options)) *daemon {
	t.Helper()
	l := sockets.NewInmemSocket("towline", 0)
	return startOn(t, l, l.DialContext, change...)
}

func startOn(t *testing.T, l net.Listener, dial func(context.Context, string, string) (net.Conn, error), change ...func(*jobs.Options)) *daemon {
	t.Helper()
	d := &daemon{t: t, engine: enginetest.New(t), url: "http://" + l.Addr().String(), logs: &safeBuffer{}}
	log := logrus.New()
	log.SetOutput(d.logs)
	log.SetLevel(logrus.TraceLevel)
	metrics := prometheus.NewRegistry()
	engine, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: d.engine.Dial, Log: log, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	options := jobs.Options{Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), Log: log, Metrics: metrics}
	for _, c := range change {
		c(&options)
	}
	if d.puller, err = jobs.New(engine, options); err != nil {
		t.Fatal(err)
	}
	handler := api.New(d.puller, api.Options{Metrics: metrics, Log: log, Runs: true, Open: true})
	d.server = handler
	server := connections.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.opened.Add(1)
		defer d.opened.Add(-1)
		handler.ServeHTTP(w, r)
	}))
	var connections sync.WaitGroup
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			connections.Add(1)
		case http.StateClosed, http.StateHijacked:
			connections.Done()
		}
	}
	transport := &http.Transport{DialContext: dial}
	d.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		d.shutDown()
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
		connections.Wait()
		handler.Wait(context.Background())
		engine.Close()
	})
	return d
}

// shutDown ends all jobs, as the daemon's end does.
func (d *daemon) shutDown() {
	d.t.Helper()
	if err := d.puller.Close(context.Background()); err != nil {
		d.t.Error(err)
	}
}

// good makes the engine serve an image.
func (d *daemon) good(image string, seed int) puller.Image {
	i := enginetest.NewImage(image, seed)
	d.engine.Script(image, enginetest.Serve(i))
	return i
}

// held makes the engine stop in the middle of a pull of the image until the
// gate is closed; then the pull ends well.
func (d *daemon) held(image string) (gate chan struct{}) {
	gate = make(chan struct{})
	i := enginetest.NewImage(image, 7)
	d.engine.Script(image, func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling from image","id":"v1"}`)
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aaaaaaaaaaaa"}`)
		if p.Until(gate) {
			p.Line(`{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
			p.Tag(i)
			p.Line(`{"status":"Digest: ` + enginetest.Digest(i) + `"}`)
		}
	})
	return gate
}

// limit is how long a request of a test may take before it has failed.
const limit = 20 * time.Second

// send makes a request whose body, if there is one, is JSON. Headers are given
// as name, value, name, value…
func (d *daemon) send(ctx context.Context, method, path, body string, header ...string) *http.Response {
	d.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   string
}

func (d *daemon) call(method, path, body string, header ...string) answer {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	resp := d.send(ctx, method, path, body, header...)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v after %s", method, path, err, raw)
	}
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

// job takes a job out of an answer, which must have the status.
func (a answer) job(t *testing.T, status int) puller.Job {
	t.Helper()
	var j puller.Job
	a.decode(t, status, "application/json", &j)
	return j
}

func (a answer) decode(t *testing.T, status int, media string, v any) {
	t.Helper()
	if a.status != status || a.header.Get("Content-Type") != media {
		t.Fatalf("the answer is %d, %s, not %d, %s:\n%s", a.status, a.header.Get("Content-Type"), status, media, a.body)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in:\n%s", err, a.body)
	}
}

// problem takes a problem out of an answer, which must be one in form and of
// the kind.
func (a answer) problem(t *testing.T, status int, kind puller.ErrorKind) api.Problem {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("the answer is %d, %s:\n%s", a.status, got, a.body)
	}
	var p api.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in:\n%s", err, a.body)
	}
	if a.status != status || p.Status != status || p.Kind != kind {
		t.Errorf("the answer is %d, want %d and %s:\n%s", a.status, status, kind, a.body)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Retryable != p.Kind.Retryable() {
		t.Errorf("the problem lacks something:\n%s", a.body)
	}
	return p
}

// pull submits a pull of an image and returns the job.
func (d *daemon) pull(image string) puller.Job {
	d.t.Helper()
	return d.call("POST", "/v1/pulls", `{"image":"`+image+`"}`).job(d.t, http.StatusAccepted)
}

// ended waits for a job's end.
func (d *daemon) ended(id string) puller.Job {
	d.t.Helper()
	j, err := d.puller.Wait(d.t.Context(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	return j
}

// told is an event as a reader gets it.
type told struct {
	puller.Event
	id, name string // SSE's own fields
	at       time.Time
	raw      string
}

// feed reads a stream of events.
type feed struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	sse   bool
	retry time.Duration // that the stream asks for
	close func()
}

const (
	ndjson = "application/x-ndjson"
	sse    = "text/event-stream"
)

// follow makes a request that is answered with events of the media type. The
// headers must be those of a stream.
func (d *daemon) follow(method, path, body, media string, header ...string) *feed {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Hour)
	resp := d.send(ctx, method, path, body, append(header, "Accept", media)...)
	f := &feed{t: d.t, resp: resp, lines: bufio.NewScanner(resp.Body), sse: media == sse}
	f.close = func() { cancel(); resp.Body.Close() }
	d.t.Cleanup(f.close)
	for name, want := range map[string]string{"Content-Type": media, "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := resp.Header.Get(name); resp.StatusCode != http.StatusOK || got != want {
			d.t.Errorf("the stream is %s with %s %q, want %q", resp.Status, name, got, want)
		}
	}
	return f
}

// next returns the next event, or false at the stream's end.
func (f *feed) next() (told, bool) {
	f.t.Helper()
	var e told
	data := ""
	for data == "" {
		if !f.lines.Scan() {
			if err := f.lines.Err(); err != nil {
				f.t.Errorf("the stream broke: %v", err)
			}
			return e, false // what has no data is no event
		}
		line := f.lines.Text()
		e.raw += line + "\n"
		switch name, value, _ := strings.Cut(line, ": "); {
		case !f.sse:
			data = line
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "retry":
			ms, _ := strconv.Atoi(value)
			f.retry = time.Duration(ms) * time.Millisecond
			f.lines.Scan()
		case name == "data":
			data = value
			f.lines.Scan()
			e.raw += f.lines.Text() + "\n"
			if f.lines.Text() != "" {
				f.t.Errorf("no empty line ends the frame:\n%s", e.raw)
			}
		default:
			f.t.Fatalf("an unexpected line: %q", line)
		}
	}
	e.at = time.Now()
	if err := json.Unmarshal([]byte(data), &e.Event); err != nil {
		f.t.Fatalf("%v in %s", err, data)
	}
	return e, true
}

// until reads to the first event that is wanted.
func (f *feed) until(wanted func(told) bool) []told {
	f.t.Helper()
	var all []told
	for {
		e, ok := f.next()
		if !ok {
			f.t.Fatalf("the stream ended before that event, after %d", len(all))
		}
		all = append(all, e)
		if wanted(e) {
			return all
		}
	}
}

// rest reads to the stream's end.
func (f *feed) rest() []told {
	f.t.Helper()
	var all []told
	for {
		e, ok := f.next()
		if !ok {
			return all
		}
		all = append(all, e)
	}
}

func downloading(e told) bool { return e.Type == "layer" && e.Layer.Phase.String() == "downloading" }

// checkComplete checks that events are those of a job to its good end.
func checkComplete(t *testing.T, events []told, id string) {
	t.Helper()
	for i, e := range events {
		last := i == len(events)-1
		if e.Job != id {
			t.Errorf("an event is not of job %s: %s", id, e.raw)
		}
		if (e.Type == "result") != last {
			t.Errorf("event %d of %d is a %s", i+1, len(events), e.Type)
		}
		if last && (e.Result == nil || e.Result.State != puller.StateSucceeded || e.Result.ID != id) {
			t.Errorf("the job's end is %s", e.raw)
		}
	}
}

func numbers(events []told) []uint64 {
	var all []uint64
	for _, e := range events {
		if e.Seq != 0 {
			all = append(all, e.Seq)
		}
	}
	return all
}

// registryAuth is an X-Registry-Auth header.
func registryAuth(user, password string) string {
	raw, _ := json.Marshal(map[string]string{"username": user, "password": password})
	return base64.URLEncoding.EncodeToString(raw)
}

// headerFor is how the engine is shown a header for an image.
func headerFor(t *testing.T, header, image string) string {
	t.Helper()
	c, err := puller.ParseCredentials(header)
	if err != nil {
		t.Fatal(err)
	}
	return c.HeaderFor(image)
}

// safeBuffer takes log lines from anywhere.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
