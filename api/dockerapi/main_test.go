package dockerapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
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

// daemon is Towline's API over a scripted engine.
type daemon struct {
	t      *testing.T
	engine *enginetest.Engine
	puller *jobs.Service
	client *http.Client
	url    string
	logs   *logBuffer
	opened atomic.Int64 // requests that are being answered
}

// start serves the API over TCP.
func start(t *testing.T) *daemon {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, (&net.Dialer{}).DialContext, 0)
}

// startInMemory serves the API without sockets, for tests in a synctest bubble.
func startInMemory(t *testing.T, retries int) *daemon {
	t.Helper()
	l := sockets.NewInmemSocket("towline", 0)
	return startOn(t, l, l.DialContext, retries)
}

func startOn(t *testing.T, l net.Listener, dial func(context.Context, string, string) (net.Conn, error), retries int) *daemon {
	t.Helper()
	d := &daemon{t: t, engine: enginetest.New(t), url: "http://" + l.Addr().String(), logs: &logBuffer{}}
	log := logrus.New()
	log.SetOutput(d.logs)
	log.SetLevel(logrus.TraceLevel)
	metrics := prometheus.NewRegistry()
	engine, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: d.engine.Dial, Log: log, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	if d.puller, err = jobs.New(engine, jobs.Options{
		Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Retries: retries, Store: storetest.New(), Log: log, Metrics: metrics,
	}); err != nil {
		t.Fatal(err)
	}
	handler := api.New(d.puller, api.Options{Metrics: metrics, Log: log, Open: true})
	server := connections.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.opened.Add(1)
		defer d.opened.Add(-1)
		handler.ServeHTTP(w, r)
	}))
	transport := &http.Transport{DialContext: dial}
	d.client = &http.Client{Transport: transport}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		d.shutDown()
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
		handler.Wait(context.Background())
		engine.Close()
	})
	return d
}

// shutDown ends all jobs, as the end of the daemon does.
func (d *daemon) shutDown() {
	d.t.Helper()
	if err := d.puller.Close(context.Background()); err != nil {
		d.t.Error(err)
	}
}

// jobs returns all jobs, oldest first.
func (d *daemon) jobs() []puller.Job {
	d.t.Helper()
	page, _, err := d.puller.Jobs(puller.Filter{})
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Reverse(page)
	return page
}

// serve makes the engine serve an image.
func (d *daemon) serve(image string) puller.Image {
	i := enginetest.NewImage(image, 1)
	d.engine.Script(image, enginetest.Serve(i))
	return i
}

// hold makes the engine stop in the middle of a pull until the gate is closed. Then
// the pull succeeds.
func (d *daemon) hold(image string) (gate chan struct{}) {
	gate = make(chan struct{})
	i := enginetest.NewImage(image, 7)
	d.engine.Script(image, func(p *enginetest.Pull) {
		p.Line(`{"status":"Downloading","progressDetail":{"current":500,"total":1000},"id":"aaaaaaaaaaaa"}`)
		if p.Until(gate) {
			p.Line(`{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
			p.Tag(i)
			p.Line(`{"status":"Digest: ` + enginetest.Digest(i) + `"}`)
		}
	})
	return gate
}

// send makes a request. Headers are name, value, name, value…
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
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	resp := d.send(ctx, method, path, body, header...)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v after %s", method, path, err, raw)
	}
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

// decode decodes the body of a JSON answer.
func (a answer) decode(t *testing.T, status int, v any) {
	t.Helper()
	if got := a.header.Get("Content-Type"); a.status != status || got != "application/json" {
		t.Fatalf("the answer is %d, %s, not %d:\n%s", a.status, got, status, a.body)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in:\n%s", err, a.body)
	}
}

// checkMessage checks an error in Docker's form.
func checkMessage(t *testing.T, a answer, status int, words string) {
	t.Helper()
	var body map[string]string
	a.decode(t, status, &body)
	if len(body) != 1 || !strings.Contains(body["message"], words) {
		t.Errorf("the message is %s, and should have %q", a.body, words)
	}
	if a.header.Get("Api-Version") == "" {
		t.Error("the answer has no Api-Version")
	}
}

// registryAuth is an X-Registry-Auth header.
func registryAuth(user, password string) string {
	raw, _ := json.Marshal(map[string]string{"username": user, "password": password})
	return base64.URLEncoding.EncodeToString(raw)
}

// logBuffer may be used by several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
