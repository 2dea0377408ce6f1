package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/go-connections/sockets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/pullertest"
)

// Tokens of the tests. None may ever be logged.
const (
	reader = "canary-reader"
	pulls  = "canary-puller"
	runner = "canary-runner"
	boss   = "canary-boss"
	late   = "canary-late"
)

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func listed(name, token, scopes string) string {
	return fmt.Sprintf("  - name: %s\n    sha256: %s\n    scopes: [%s]\n", name, hashOf(token), scopes)
}

// everyone is a token file with all of them.
func everyone() string {
	return "tokens:\n" + listed("reader", reader, "read") + listed("puller", pulls, "pull") + listed("runner", runner, "run") +
		listed("boss", boss, "admin") + listed("late", late, "admin") + "    expires: 2020-01-31T00:00:00Z\n"
}

func tokenFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openTokens(t *testing.T, path string, out io.Writer) *api.Tokens {
	t.Helper()
	l := logrus.New()
	l.SetOutput(out)
	tokens, err := api.OpenTokens(path, l)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// guarded serves the daemon's jobs once more, to callers that must show
// something.
func (d *daemon) guarded(change ...func(*api.Options)) *daemon {
	d.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(d.logs)
	logger.SetLevel(logrus.TraceLevel)
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: logger, Runs: true, Tokens: openTokens(d.t, tokenFile(d.t, everyone()), d.logs)}
	for _, c := range change {
		c(&o)
	}
	server := api.HTTPServer(api.New(d.puller, o))
	server.ErrorLog = log.New(d.logs, "", 0)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	transport := &http.Transport{}
	g := &daemon{t: d.t, engine: d.engine, puller: d.puller, logs: d.logs, url: "http://" + l.Addr().String(), client: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	d.t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
		if strings.Contains(d.logs.String(), "canary") {
			d.t.Errorf("a token is in the log:\n%s", d.logs)
		}
	})
	return g
}

// bearer is a header with a token.
func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// route is one that there is, with what it needs.
type route struct {
	method, path, body, media string
	scope                     api.Scope
}

// routes are all that ask for something. id is a pull's, run a run's.
func routes(id, run string) []route {
	return []route{
		{"POST", "/v1/pulls", `{"image":"alpine"}`, "", api.ScopePull},
		{"POST", "/v1/prewarms", `{"images":["alpine"]}`, "", api.ScopePull},
		{"POST", "/v1/prewarms?dry_run=true", `{"images":["alpine"]}`, "", api.ScopePull},
		{"POST", "/v1/prewarms", "services: {a: {image: alpine}}", "application/yaml", api.ScopePull},
		{"POST", "/v1/runs", `{"image":"alpine"}`, "", api.ScopeRun},
		{"GET", "/v1/jobs", "", "", api.ScopeRead},
		{"HEAD", "/v1/jobs", "", "", api.ScopeRead},
		{"GET", "/v1/jobs/" + id, "", "", api.ScopeRead},
		{"GET", "/v1/jobs/" + id + "/events", "", "", api.ScopeRead},
		{"GET", "/v1/jobs/" + run + "/logs", "", "", api.ScopeRead},
		{"GET", "/v1/engine", "", "", api.ScopeRead},
		{"GET", "/metrics", "", "", api.ScopeRead},
		{"DELETE", "/v1/jobs/" + id, "", "", api.ScopePull},
		{"DELETE", "/v1/jobs/" + run, "", "", api.ScopeRun},
	}
}

// guardedJobs returns a guarded daemon with a pull and a run that have ended.
func guardedJobs(t *testing.T) (g *daemon, pull, run string) {
	d := startRunning(t, pullertest.Print("out", "", 0))
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
	d.t.Helper()
	all, _, err := d.puller.Jobs(puller.Filter{Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	return len(all)
}

func (r route) String() string { return r.method + " " + r.path }

func TestWhoIsNotKnownIsRefusedOnEveryRoute(t *testing.T) {
	g, pull, run := guardedJobs(t)
	all := append(routes(pull, run), route{method: "GET", path: "/v1/session"}, route{method: "DELETE", path: "/v1/session"},
		route{method: "GET", path: "/nowhere"}, route{method: "PUT", path: "/v1/pulls"}, route{method: "GET", path: "/"},
		route{method: "GET", path: "//v1//jobs"})
	for name, header := range map[string][]string{
		"no token":                {},
		"wrong":                   bearer("canary-nobody"),
		"one letter more":         bearer(boss + "x"),
		"expired":                 bearer(late),
		"empty":                   {"Authorization", ""},
		"Bearer alone":            {"Authorization", "Bearer"},
		"the hash":                bearer(hashOf(boss)),
		"Basic":                   {"Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ=="},
		"no scheme":               {"Authorization", boss},
		"a forged session":        {"Cookie", "towline_session=MVF2XRZTQDX7FNNB7JQ4EZ3LQY"},
		"the token as a session":  {"Cookie", "towline_session=" + boss},
		"another one's word":      {"X-Forwarded-User", "boss"},
		"a forged peer":           {"X-Towline-Caller", "uid:0"},
		"a forged address":        {"X-Forwarded-For", "127.0.0.1"},
		"a token in Docker's way": {"X-Registry-Auth", registryAuth("boss", boss)},
	} {
		for _, r := range all {
			a := r.send(g, header...)
			if r.method == "HEAD" {
				if a.status != http.StatusUnauthorized {
					t.Errorf("%s: %s: %d", name, r, a.status)
				}
				continue
			}
			p := a.problem(t, http.StatusUnauthorized, puller.Unauthorized)
			if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="towline"` {
				t.Errorf("%s: %s: WWW-Authenticate is %q", name, r, got)
			}
			if a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %s: the answer may be taken for what it is not", name, r)
			}
			if strings.Contains(a.body, "canary") {
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
		if a := g.call("GET", path, ""); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestEachScopeOpensItsRoutesAndNoOthers(t *testing.T) {
	g, pull, run := guardedJobs(t)
	tokens := map[string][]api.Scope{
		reader: {api.ScopeRead}, pulls: {api.ScopePull}, runner: {api.ScopeRun}, boss: {api.ScopeRead, api.ScopePull, api.ScopeRun},
	}
	for _, r := range routes(pull, run) {
		for token, scopes := range tokens {
			a, may := r.send(g, bearer(token)...), false
			for _, s := range scopes {
				may = may || s == r.scope
			}
			switch {
			case may && (a.status == http.StatusForbidden || a.status == http.StatusUnauthorized):
				t.Errorf("%s is refused to %s: %s", r, token, a.body)
			case !may && a.status != http.StatusForbidden:
				t.Errorf("%s is open to %s: %d", r, token, a.status)
			case !may && r.method != "HEAD":
				p := a.problem(t, http.StatusForbidden, puller.Forbidden)
				if !strings.Contains(p.Detail, `"`+string(r.scope)+`"`) {
					t.Errorf("%s: the scope is not named: %s", r, p.Detail)
				}
			}
		}
	}
	// What no route takes is said to whoever is known.
	for path, status := range map[string]int{"/nowhere": http.StatusNotFound, "/v1/engine": http.StatusMethodNotAllowed} {
		if a := g.call("PUT", path, "", bearer(reader)...); a.status != status {
			t.Errorf("PUT %s: %d", path, a.status)
		}
	}
}

func TestCallersAreKnownByTheirTokensNames(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	g := d.guarded()
	job := g.call("POST", "/v1/pulls", `{"image":"alpine"}`, bearer(pulls)...).job(t, http.StatusAccepted)
	d.ended(job.ID)
	a := g.call("GET", "/v1/session", "", bearer(pulls)...)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"caller":"token:puller"`) || !strings.Contains(a.body, `["pull"]`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestATokenInTheAddressIsRefusedAndNotLogged(t *testing.T) {
	g := start(t).guarded()
	for _, path := range []string{"/v1/jobs?token=", "/v1/jobs?limit=1&access_token=", "/healthz?token=", "/nowhere?authorization=Bearer+", "/v1/jobs?TOKEN="} {
		for _, header := range [][]string{nil, bearer(boss)} {
			a := g.call("GET", path+boss, "", header...)
			if strings.Contains(a.body, "canary") || a.status/100 != 4 {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
			if !strings.Contains(path, "TOKEN") {
				if p := a.problem(t, http.StatusBadRequest, puller.InvalidRequest); !strings.Contains(p.Detail, "Authorization") {
					t.Errorf("%s: %s", path, p.Detail)
				}
			}
		}
	}
}

func TestAForgedHostIsRefused(t *testing.T) {
	d := start(t)
	g := d.guarded(func(o *api.Options) { o.Hosts = []string{"CI.test", "10.0.0.7:7077"} })
	own := strings.TrimPrefix(g.url, "http://")
	_, port, _ := net.SplitHostPort(own)
	for host, fine := range map[string]bool{
		own: true, "localhost": true, "localhost:" + port: true, "LocalHost.": true, "127.0.0.1": true, "127.0.0.1:9": true,
		"[::1]:" + port: true, "[::1]": true, "ci.test": true, "ci.test:443": true, "CI.TEST": true, "10.0.0.7": true,
		"evil.test": false, "evil.test:" + port: false, "localhost.evil.test": false, "ci.test.evil.test": false, "xci.test": false,
		"127.0.0.2": false, "[::2]": false, "0.0.0.0": false, "127.1": false, "2130706433": false, "localhost:80:80": false, "ci.test@evil.test": false,
	} {
		for _, path := range []string{"/v1/jobs", "/healthz"} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", g.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			r.Header.Set("Authorization", "Bearer "+boss)
			resp, err := g.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			a := answer{resp.StatusCode, resp.Header, string(raw)}
			if fine != (a.status == http.StatusOK) {
				t.Errorf("%s as %q: %d %s", path, host, a.status, a.body)
			}
			if !fine && a.status != http.StatusBadRequest { // net/http refuses what is no host by itself
				if p := a.problem(t, http.StatusForbidden, puller.Forbidden); !strings.Contains(p.Detail, "auth.hosts") {
					t.Errorf("%q: %s", host, p.Detail)
				}
			}
		}
	}
}

func TestRequestsOfOtherSitesPagesAreRefused(t *testing.T) {
	d := start(t)
	d.good("alpine", 1)
	g := d.guarded()
	for _, r := range []struct {
		headers []string
		fine    bool
	}{
		{[]string{"Origin", "http://evil.test"}, false},
		{[]string{"Origin", "null"}, false},
		{[]string{"Origin", g.url + ".evil.test"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site"}, false},
		{[]string{"Sec-Fetch-Site", "same-site"}, false},
		{[]string{"Sec-Fetch-Site", "cross-site", "Origin", g.url}, false},
		{[]string{"Origin", g.url}, true},
		{[]string{"Sec-Fetch-Site", "same-origin", "Origin", g.url}, true},
		{nil, true},
	} {
		a := g.call("POST", "/v1/pulls", `{"image":"alpine"}`, append(r.headers, bearer(boss)...)...)
		if !r.fine {
			a.problem(t, http.StatusForbidden, puller.Forbidden)
			for _, login := range []string{"/v1/session"} {
				g.call("POST", login, `{"token":"`+boss+`"}`, r.headers...).problem(t, http.StatusForbidden, puller.Forbidden)
			}
			continue
		}
		d.ended(a.job(t, http.StatusAccepted).ID)
	}
	a := g.call("OPTIONS", "/v1/pulls", "", append(bearer(boss), "Origin", "http://evil.test", "Access-Control-Request-Method", "POST")...)
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("another site is let in: %s", name)
		}
	}
	// GET changes nothing: it is not asked where it comes from, and no page can
	// read the answer.
	a = g.call("GET", "/v1/jobs", "", append(bearer(boss), "Origin", "http://evil.test")...)
	if a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a GET: %d %v", a.status, a.header)
	}
}

func TestBodiesThatAFormCanSendAreRefused(t *testing.T) {
	g := start(t).guarded()
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/plain; application/json", "application/yaml"} {
		for path, body := range map[string]string{"/v1/pulls": `{"image":"alpine"}`, "/v1/runs": `{"image":"alpine"}`, "/v1/session": `{"token":"` + boss + `"}`, "/v1/prewarms": `{"images":["alpine"]}`} {
			if path == "/v1/prewarms" && media == "application/yaml" {
				continue
			}
			a := g.call("POST", path, body, append(bearer(boss), "Content-Type", media)...)
			if p := a.problem(t, http.StatusBadRequest, puller.InvalidRequest); !strings.HasPrefix(p.Detail, "Content-Type: ") {
				t.Errorf("%s as %q: %s", path, media, p.Detail)
			}
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		a := g.call(method, "/v1/jobs/01J", `{}`, bearer(boss)...)
		if p := a.problem(t, http.StatusBadRequest, puller.InvalidRequest); !strings.HasPrefix(p.Detail, "body: ") {
			t.Errorf("%s with a body: %s", method, p.Detail)
		}
	}
}

func TestBombsAreRefused(t *testing.T) {
	g := start(t).guarded()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(bytes.Repeat([]byte(" "), 10<<20))
	z.Close()
	for _, coding := range []string{"gzip", "deflate", "br", "zstd", "gzip, gzip", "x"} {
		for _, path := range []string{"/v1/pulls", "/v1/prewarms", "/v1/runs", "/v1/session"} {
			a := g.call("POST", path, bomb.String(), append(bearer(boss), "Content-Encoding", coding)...)
			if p := a.problem(t, http.StatusBadRequest, puller.InvalidRequest); !strings.HasPrefix(p.Detail, "Content-Encoding: ") {
				t.Errorf("%s: %s", coding, p.Detail)
			}
		}
	}
	// A body without end, from one who is known and from one who is not.
	for _, header := range [][]string{bearer(boss), nil} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", g.url+"/v1/pulls", endless{})
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if resp, err := g.client.Do(r); err == nil { // else the connection was cut
			if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("a body without end: %s", resp.Status)
			}
			resp.Body.Close()
		}
	}
	a := g.call("GET", "/v1/jobs?image="+strings.Repeat("a", 40_000), "", bearer(boss)...)
	if p := a.problem(t, http.StatusRequestURITooLong, puller.InvalidRequest); !strings.Contains(p.Detail, "32768") {
		t.Errorf("%s", p.Detail)
	}
	// What is in the head is refused before it is whole.
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	fmt.Fprintf(conn, "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX: ")
	sent := 0
	for chunk := bytes.Repeat([]byte("x"), 64<<10); sent < 10<<20; sent += len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			break // it was cut
		}
	}
	if raw, _ := io.ReadAll(conn); len(raw) > 0 && !bytes.HasPrefix(raw, []byte("HTTP/1.1 431 ")) {
		t.Errorf("a head of %d bytes: %s", sent, raw)
	} else if len(raw) == 0 && sent >= 10<<20 {
		t.Errorf("a head of %d bytes was read and not answered", sent)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }

func TestPathTricksOpenNothing(t *testing.T) {
	g, pull, run := guardedJobs(t)
	before := g.jobs()
	for _, r := range append(routes(pull, run), route{method: "POST", path: "/images/create", scope: api.ScopePull}, route{method: "GET", path: "/version"}) {
		path, query, _ := strings.Cut(r.path, "?")
		segments := strings.Split(path[1:], "/")
		tricks := []string{
			"/" + path, "//evil.test" + path, strings.ReplaceAll(path, "/", "//"), path + "/", path + "/.", path + "/../" + segments[len(segments)-1],
			"/healthz/.." + path, "/healthz/%2e%2e" + path, "/healthz%2f.." + path, "/./" + path[1:], "/%2e" + path, "/" + strings.Join(segments, "%2f"), "/" + strings.Join(segments, "%2F"),
			"/v1/session/.." + path, path + "%2f", path + "%00", path + ";x", path + "/healthz", "/healthz" + path, strings.ToUpper(path), path + "%20", `\` + path[1:], "/v1.41" + path, "/v1.41/.." + path,
		}
		for _, trick := range tricks {
			for _, token := range []string{"", reader, runner} {
				status, location := raw(t, g, r.method, trick+"?"+query, token, r.body)
				switch {
				case token == "" && status != http.StatusUnauthorized && status != http.StatusForbidden && status != http.StatusBadRequest:
					t.Errorf("%s %s without a token: %d", r.method, trick, status)
				case token != "" && status/100 == 2 && !(r.scope == api.ScopeRead && token == reader) && !(r.scope == api.ScopeRun && token == runner):
					t.Errorf("%s %s with %s: %d", r.method, trick, token, status)
				case strings.HasPrefix(location, "//") || strings.Contains(location, "://"):
					t.Errorf("%s %s: leads to %s", r.method, trick, location)
				}
			}
		}
	}
	if after := g.jobs(); after != before {
		t.Errorf("%d jobs were made", after-before)
	}
}

// raw sends a path as it is.
func raw(t *testing.T, g *daemon, method, target, token, body string) (status int, location string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\nContent-Type: application/json\r\n", method, target, len(body))
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	io.WriteString(conn, head+"\r\n"+body)
	answer, _ := io.ReadAll(conn)
	if _, err := fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status); err != nil {
		t.Fatalf("%s %s: %q", method, target, answer)
	}
	for line := range strings.Lines(string(answer)) {
		if value, ok := strings.CutPrefix(line, "Location: "); ok {
			location = strings.TrimSpace(value)
		}
	}
	return status, location
}

func TestDockersClientsAreToldInDockersForm(t *testing.T) {
	g := start(t).guarded()
	for path, method := range map[string]string{
		"/_ping": "GET", "/v1.41/_ping": "HEAD", "/version": "GET", "/images/create?fromImage=alpine": "POST", "/v1.24/images/create?fromImage=x": "POST", "/v1.41/containers/json": "GET",
	} {
		for _, header := range [][]string{nil, bearer("canary-nobody")} {
			a := g.call(method, path, "", header...)
			if a.status != http.StatusForbidden || method != "HEAD" && (a.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(a.body, `{"message":"`)) {
				t.Errorf("%s %s: %d %s %s", method, path, a.status, a.header.Get("Content-Type"), a.body)
			}
		}
	}
	a := g.call("POST", "/v1.41/images/create?fromImage=alpine", "", bearer(reader)...)
	if a.status != http.StatusForbidden || !strings.Contains(a.body, `\"pull\"`) {
		t.Errorf("without the scope: %d %s", a.status, a.body)
	}
	a = g.call("POST", "/v1.41/images/create?fromImage=alpine", "", append(bearer(boss), "Origin", "http://evil.test")...)
	if a.status != http.StatusForbidden || !strings.HasPrefix(a.body, `{"message":"`) {
		t.Errorf("from another site: %d %s", a.status, a.body)
	}
	if a := g.call("POST", "/v1.41/containers/create", "", bearer(pulls)...); a.status != http.StatusForbidden {
		t.Errorf("what nobody has opened: %d", a.status)
	}
}

func TestRequestsASecondAreLimited(t *testing.T) {
	d := start(t)
	g := d.guarded(func(o *api.Options) { o.Requests = 3 })
	refused := 0
	for range 20 {
		if a := g.call("GET", "/v1/engine", "", bearer(reader)...); a.status != http.StatusOK {
			refused++
			a.problem(t, http.StatusServiceUnavailable, puller.Overloaded)
			if a.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
			}
		}
	}
	if refused == 0 {
		t.Error("twenty requests at once were taken of three a second")
	}
	if a := g.call("GET", "/v1/engine", "", bearer(boss)...); a.status != http.StatusOK {
		t.Errorf("another caller: %d", a.status)
	}
	refused = 0
	for range 20 { // who guesses tokens is one caller
		if a := g.call("GET", "/v1/engine", "", bearer("x")...); a.status == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused == 0 {
		t.Error("guesses are not limited")
	}
}

// slowly serves in a bubble, and returns a connection of a test's own to it.
func slowly(t *testing.T, tokens string) net.Conn {
	t.Helper()
	l := sockets.NewInmemSocket("towline", 0)
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: quiet, Hosts: []string{"towline"}, Tokens: openTokens(t, tokenFile(t, tokens), io.Discard)}
	server := api.HTTPServer(api.New(nil, o))
	server.ErrorLog = log.New(io.Discard, "", 0)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	conn, err := l.Dial("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Close()
		serving.Wait()
	})
	return conn
}

func TestWhoSendsSlowlyIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		first string
		most  time.Duration
	}{
		"nothing":            {"", 10 * time.Second},
		"half a head":        {"GET /v1/jobs HTTP/1.1\r\nHost: towline\r\n", 10 * time.Second},
		"a body":             {"POST /v1/session HTTP/1.1\r\nHost: towline\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", 30 * time.Second},
		"a body to a GET":    {"GET /healthz HTTP/1.1\r\nHost: towline\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n", 30 * time.Second},
		"of a stranger":      {"POST /v1/pulls HTTP/1.1\r\nHost: towline\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{", 30 * time.Second},
		"after a fault":      {"POST /v1/session HTTP/1.1\r\nHost: towline\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n]", 30 * time.Second},
		"a chunk":            {"POST /v1/session HTTP/1.1\r\nHost: towline\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", 30 * time.Second},
		"an idle connection": {"GET /healthz HTTP/1.1\r\nHost: towline\r\n\r\n", 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := slowly(t, everyone())
				begun := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					io.Copy(io.Discard, conn)
				}()
				io.WriteString(conn, c.first)
				select {
				case <-ended:
				case <-time.After(time.Hour):
					t.Fatal("it is never cut off")
				}
				if took := time.Since(begun); took > c.most {
					t.Errorf("it was cut off after %s", took)
				}
			})
		})
	}
}

func TestUnixSocketsNeedNoToken(t *testing.T) {
	d := start(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	// As a listener that counts has it.
	server := api.HTTPServer(api.New(d.puller, api.Options{Metrics: prometheus.NewRegistry(), Log: logrus.New(), Requests: 1}))
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
	g := &daemon{t: t, puller: d.puller, client: &http.Client{Transport: transport}, url: "http://any.name.test"}
	for range 5 { // without a limit
		a := g.call("GET", "/v1/session", "", bearer("canary-ignored")...)
		if want := fmt.Sprintf(`{"caller":"uid:%d","scopes":["admin"]}`, os.Getuid()); strings.TrimSpace(a.body) != want {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	g.call("POST", "/v1/session", `{"token":"x"}`).problem(t, http.StatusForbidden, puller.Forbidden)
}

type wrapping struct{ net.Listener }

func (w wrapping) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	return wrapped{c}, err
}

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }
