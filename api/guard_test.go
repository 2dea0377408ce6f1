package api_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/apitest"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/guard"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// Tokens of the tests. None may ever be logged.
const (
	reader = "canary-reader"
	pulls  = "canary-puller"
	runner = "canary-runner"
	boss   = "canary-boss"
	late   = "canary-late"
)

// everyone is a token file with all of them.
func everyone() string {
	return "tokens:\n" + authtest.Listed("reader", reader, "read") + authtest.Listed("puller", pulls, "pull") + authtest.Listed("runner", runner, "run") +
		authtest.Listed("boss", boss, "admin") + authtest.Listed("late", late, "admin") + "    expires: 2020-01-31T00:00:00Z\n"
}

// asks makes a request as a caller over TCP, without a connection.
func asks(h http.Handler, token string) int {
	r := httptest.NewRequest("GET", "http://localhost/v1/session", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// guarded serves the daemon's jobs once more, to callers that must show
// something.
func (d *daemon) guarded(change ...func(*api.Options)) *daemon {
	d.T.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.T.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(d.Logs)
	logger.SetLevel(logrus.TraceLevel)
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: logger, Runs: true, Tokens: authtest.Open(d.T, authtest.File(d.T, everyone()), d.Logs)}
	for _, c := range change {
		c(&o)
	}
	server := connections.NewServer(newHandler(d.T, d.Service, o))
	server.ErrorLog = log.New(d.Logs, "", 0)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	transport := &http.Transport{}
	g := &daemon{&apitest.Daemon{T: d.T, Engine: d.Engine, Service: d.Service, Logs: d.Logs, URL: "http://" + l.Addr().String(), Client: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}}
	d.T.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
		if strings.Contains(d.Logs.String(), "canary") {
			d.T.Errorf("a token is in the log:\n%s", d.Logs)
		}
	})
	return g
}

// bearer is a header with a token.
func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// route is one that there is, with what it needs.
type route struct {
	method, path, body, media string
	scope                     auth.Scope
}

// routes are all that ask for something. id is a pull's, run a run's.
func routes(id, run string) []route {
	return []route{
		{"POST", "/v1/pulls", `{"image":"alpine"}`, "", auth.ScopePull},
		{"POST", "/v1/prewarms", `{"images":["alpine"]}`, "", auth.ScopePull},
		{"POST", "/v1/prewarms?dry_run=true", `{"images":["alpine"]}`, "", auth.ScopePull},
		{"POST", "/v1/prewarms", "services: {a: {image: alpine}}", "application/yaml", auth.ScopePull},
		{"POST", "/v1/runs", `{"image":"alpine"}`, "", auth.ScopeRun},
		{"GET", "/v1/jobs", "", "", auth.ScopeRead},
		{"HEAD", "/v1/jobs", "", "", auth.ScopeRead},
		{"GET", "/v1/jobs/" + id, "", "", auth.ScopeRead},
		{"GET", "/v1/jobs/" + id + "/events", "", "", auth.ScopeRead},
		{"GET", "/v1/jobs/" + run + "/logs", "", "", auth.ScopeRead},
		{"GET", "/v1/engine", "", "", auth.ScopeRead},
		{"GET", "/metrics", "", "", auth.ScopeRead},
		{"DELETE", "/v1/jobs/" + id, "", "", auth.ScopePull},
		{"GET", "/v1/sets", "", "", auth.ScopeRead},
		{"PUT", "/v1/sets/app", `{"images":["alpine"]}`, "", auth.ScopePull},
		{"POST", "/v1/sets/app/refresh", "", "", auth.ScopePull},
		{"DELETE", "/v1/sets/app", "", "", auth.ScopePull},
		{"GET", "/v1/leases", "", "", auth.ScopeRead},
		{"POST", "/v1/leases", `{"images":["alpine"],"ttl":"1h"}`, "", auth.ScopePull},
		{"PATCH", "/v1/leases/" + id, `{"ttl":"1h"}`, "", auth.ScopePull},
		{"DELETE", "/v1/leases/" + id, "", "", auth.ScopePull},
		{"GET", "/v1/images", "", "", auth.ScopeRead},
		{"DELETE", "/v1/jobs/" + run, "", "", auth.ScopeRun},
	}
}

// guardedJobs returns a guarded daemon with a pull and a run that have ended.
func guardedJobs(t *testing.T) (g *daemon, pull, run string) {
	d := startRunning(t, enginetest.Print("out", "", 0))
	d.good("alpine", 1)
	pull, run = d.pull("alpine").ID, d.run("").ID
	d.ended(pull)
	d.ended(run)
	return d.guarded(), pull, run
}

func (r route) send(g *daemon, header ...string) answer {
	if r.media != "" {
		header = append(header, "Content-Type", r.media)
	}
	return g.call(r.method, r.path, r.body, header...)
}

// jobs is how many there are.
func (d *daemon) jobs() int {
	d.T.Helper()
	all, _, err := d.Service.Jobs(puller.Filter{Limit: 1000})
	if err != nil {
		d.T.Fatal(err)
	}
	return len(all)
}

func (r route) String() string { return r.method + " " + r.path }

func TestUnknownCallers(t *testing.T) {
	g, pull, run := guardedJobs(t)
	all := append(routes(pull, run), route{method: "GET", path: "/v1/session"}, route{method: "DELETE", path: "/v1/session"},
		route{method: "GET", path: "/nowhere"}, route{method: "PUT", path: "/v1/pulls"}, route{method: "GET", path: "/v1/"},
		route{method: "GET", path: "//v1//jobs"})
	for name, header := range map[string][]string{
		"no token":                {},
		"wrong":                   bearer("canary-nobody"),
		"one letter more":         bearer(boss + "x"),
		"expired":                 bearer(late),
		"empty":                   {"Authorization", ""},
		"Bearer alone":            {"Authorization", "Bearer"},
		"the hash":                bearer(authtest.Hash(boss)),
		"Basic":                   {"Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ=="},
		"no scheme":               {"Authorization", boss},
		"a forged session":        {"Cookie", "towline_session=MVF2XRZTQDX7FNNB7JQ4EZ3LQY"},
		"the token as a session":  {"Cookie", "towline_session=" + boss},
		"another one's word":      {"X-Forwarded-User", "boss"},
		"a forged peer":           {"X-Towline-Caller", "uid:0"},
		"a forged address":        {"X-Forwarded-For", "127.0.0.1"},
		"a token in Docker's way": {"X-Registry-Auth", apitest.RegistryAuth("boss", boss)},
	} {
		for _, r := range all {
			a := r.send(g, header...)
			if r.method == "HEAD" {
				if a.Status != http.StatusUnauthorized {
					t.Errorf("%s: %s: %d", name, r, a.Status)
				}
				continue
			}
			p := a.problem(t, http.StatusUnauthorized, puller.ErrUnauthorized)
			if got := a.Header.Get("WWW-Authenticate"); got != `Bearer realm="towline"` {
				t.Errorf("%s: %s: WWW-Authenticate is %q", name, r, got)
			}
			if a.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %s: the answer may be taken for what it is not", name, r)
			}
			if strings.Contains(a.Body, "canary") {
				t.Errorf("%s: %s: the answer holds a token: %s", name, r, p.Detail)
			}
			if name == "expired" && !strings.Contains(p.Detail, "late") {
				t.Errorf("%s: %s", r, p.Detail)
			}
		}
	}
	if n := g.jobs(); n != 2 {
		t.Errorf("there are %d jobs", n)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := g.call("GET", path, ""); a.Status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
}

func TestScopes(t *testing.T) {
	g, pull, run := guardedJobs(t)
	tokens := map[string][]auth.Scope{
		reader: {auth.ScopeRead}, pulls: {auth.ScopePull}, runner: {auth.ScopeRun}, boss: {auth.ScopeRead, auth.ScopePull, auth.ScopeRun},
	}
	for _, r := range routes(pull, run) {
		for token, scopes := range tokens {
			a, may := r.send(g, bearer(token)...), false
			for _, s := range scopes {
				may = may || s == r.scope
			}
			switch {
			case may && (a.Status == http.StatusForbidden || a.Status == http.StatusUnauthorized):
				t.Errorf("%s is refused to %s: %s", r, token, a.Body)
			case !may && a.Status != http.StatusForbidden:
				t.Errorf("%s is open to %s: %d", r, token, a.Status)
			case !may && r.method != "HEAD":
				p := a.problem(t, http.StatusForbidden, puller.ErrForbidden)
				if !strings.Contains(p.Detail, `"`+string(r.scope)+`"`) {
					t.Errorf("%s: the scope is not named: %s", r, p.Detail)
				}
			}
		}
	}
	// Images are collected where the daemon knows them, which this one does not.
	if s := guard.ScopeOf(httptest.NewRequest("POST", "/v1/collections", nil), "POST /v1/collections"); s != auth.ScopeAdmin {
		t.Errorf("a collection needs the scope %q", s)
	}
	// A known caller is told that there is no such route or method.
	for path, status := range map[string]int{"/nowhere": http.StatusNotFound, "/v1/engine": http.StatusMethodNotAllowed} {
		if a := g.call("PUT", path, "", bearer(reader)...); a.Status != status {
			t.Errorf("PUT %s: %d", path, a.Status)
		}
	}
}

func TestCallerNames(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	g := d.guarded()
	job := g.call("POST", "/v1/pulls", `{"image":"alpine"}`, bearer(pulls)...).job(t, http.StatusAccepted)
	d.ended(job.ID)
	a := g.call("GET", "/v1/session", "", bearer(pulls)...)
	if a.Status != http.StatusOK || !strings.Contains(a.Body, `"caller":"token:puller"`) || !strings.Contains(a.Body, `["pull"]`) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestTokenInURL(t *testing.T) {
	g := start(t).guarded()
	for _, path := range []string{"/v1/jobs?token=", "/v1/jobs?limit=1&access_token=", "/healthz?token=", "/nowhere?authorization=Bearer+", "/v1/jobs?TOKEN="} {
		for _, header := range [][]string{nil, bearer(boss)} {
			a := g.call("GET", path+boss, "", header...)
			if strings.Contains(a.Body, "canary") || a.Status/100 != 4 {
				t.Errorf("%s: %d %s", path, a.Status, a.Body)
			}
			if !strings.Contains(path, "TOKEN") {
				if p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); !strings.Contains(p.Detail, "Authorization") {
					t.Errorf("%s: %s", path, p.Detail)
				}
			}
		}
	}
}

func TestDockerErrors(t *testing.T) {
	g := start(t).guarded()
	for path, method := range map[string]string{
		"/_ping": "GET", "/v1.41/_ping": "HEAD", "/version": "GET", "/images/create?fromImage=alpine": "POST", "/v1.24/images/create?fromImage=x": "POST", "/v1.41/containers/json": "GET",
	} {
		for _, header := range [][]string{nil, bearer("canary-nobody")} {
			a := g.call(method, path, "", header...)
			if a.Status != http.StatusForbidden || method != "HEAD" && (a.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(a.Body, `{"message":"`)) {
				t.Errorf("%s %s: %d %s %s", method, path, a.Status, a.Header.Get("Content-Type"), a.Body)
			}
		}
	}
	a := g.call("POST", "/v1.41/images/create?fromImage=alpine", "", bearer(reader)...)
	if a.Status != http.StatusForbidden || !strings.Contains(a.Body, `\"pull\"`) {
		t.Errorf("without the scope: %d %s", a.Status, a.Body)
	}
	a = g.call("POST", "/v1.41/images/create?fromImage=alpine", "", append(bearer(boss), "Origin", "http://evil.test")...)
	if a.Status != http.StatusForbidden || !strings.HasPrefix(a.Body, `{"message":"`) {
		t.Errorf("from another site: %d %s", a.Status, a.Body)
	}
	// A body that means nothing is read over, whatever it says it is.
	for _, media := range []string{"application/json", "text/plain", ""} {
		a = g.call("POST", "/v1.41/images/create?fromImage=alpine", `{"fromImage":"alpine"}`, append(bearer(pulls), "Content-Type", media)...)
		if a.Status == http.StatusForbidden || strings.Contains(a.Body, "body: ") || strings.Contains(a.Body, "Content-Type") {
			t.Errorf("with a body of %q: %d %s", media, a.Status, a.Body)
		}
	}
	a = g.call("POST", "/v1.41/images/create?fromImage=alpine", strings.Repeat(" ", 1<<20+1), bearer(pulls)...)
	if a.Status != http.StatusBadRequest || !strings.HasPrefix(a.Body, `{"message":"body: larger`) {
		t.Errorf("with a large body: %d %s", a.Status, a.Body)
	}
	if a := g.call("POST", "/v1.41/containers/create", "", bearer(pulls)...); a.Status != http.StatusForbidden {
		t.Errorf("what nobody has opened: %d", a.Status)
	}
}

func TestRequestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := authtest.Open(t, authtest.File(t, everyone()), io.Discard)
		h := newHandler(t, nil, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Tokens: tokens, Requests: 3})
		take := func(token string, want ...int) {
			t.Helper()
			for i, code := range want {
				if got := asks(h, token); got != code {
					t.Errorf("request %d of %s: %d, not %d", i+1, token, got, code)
				}
			}
		}
		take(reader, 200, 200, 200, 503, 503)
		take(boss, 200, 200, 200, 503)
		take("canary-guess", 401, 401, 401, 503) // all guesses count as one caller,
		take("canary-other", 503)                // whatever the guess
		<-time.After(time.Second)
		take(reader, 200, 200, 200, 503)
	})
	d := start(t)
	g := d.guarded(func(o *api.Options) { o.Requests = 1 })
	var a answer
	for range 100 { // the first ones may take long
		if a = g.call("GET", "/v1/engine", "", bearer(reader)...); a.Status != http.StatusOK {
			break
		}
	}
	a.problem(t, http.StatusServiceUnavailable, puller.ErrOverloaded)
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
	}
}

func TestUnixSocket(t *testing.T) {
	d := start(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	// As a listener that counts has it.
	server := connections.NewServer(newHandler(t, d.Service, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Requests: 1}))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(wrapping{l}) })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
	})
	g := &daemon{&apitest.Daemon{T: t, Service: d.Service, Client: &http.Client{Transport: transport}, URL: "http://any.name.test"}}
	for range 5 { // without a limit
		a := g.call("GET", "/v1/session", "", bearer("canary-ignored")...)
		if want := fmt.Sprintf(`{"caller":"uid:%d","scopes":["admin"]}`, os.Getuid()); strings.TrimSpace(a.Body) != want {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	g.call("POST", "/v1/session", `{"token":"x"}`).problem(t, http.StatusForbidden, puller.ErrForbidden)
}

type wrapping struct{ net.Listener }

func (w wrapping) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	return wrapped{c}, err
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }
