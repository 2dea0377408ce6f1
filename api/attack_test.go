package api_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/go-connections/sockets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/puller"
)

func TestBodyBombs(t *testing.T) {
	g := start(t).guarded()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(bytes.Repeat([]byte(" "), 10<<20))
	z.Close()
	for _, coding := range []string{"gzip", "deflate", "br", "zstd", "gzip, gzip", "x"} {
		for _, path := range []string{"/v1/pulls", "/v1/prewarms", "/v1/runs", "/v1/session"} {
			a := g.call("POST", path, bomb.String(), append(bearer(boss), "Content-Encoding", coding)...)
			if p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); !strings.HasPrefix(p.Detail, "Content-Encoding: ") {
				t.Errorf("%s: %s", coding, p.Detail)
			}
		}
	}
	// A body without end, from a known caller and from an unknown one.
	for _, header := range [][]string{bearer(boss), nil} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", g.URL+"/v1/pulls", endless{})
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if resp, err := g.Client.Do(r); err == nil { // else the connection was cut
			if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("a body without end: %s", resp.Status)
			}
			resp.Body.Close()
		}
	}
	a := g.call("GET", "/v1/jobs?image="+strings.Repeat("a", 40_000), "", bearer(boss)...)
	if p := a.problem(t, http.StatusRequestURITooLong, puller.ErrInvalidRequest); !strings.Contains(p.Detail, "32768") {
		t.Errorf("%s", p.Detail)
	}
	// What is in the head is refused before it is whole.
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
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

func TestUncleanPaths(t *testing.T) {
	g, pull, run := guardedJobs(t)
	before := g.jobs()
	for _, r := range append(routes(pull, run), route{method: "POST", path: "/images/create", scope: auth.ScopePull}, route{method: "GET", path: "/version"}) {
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
				case token != "" && r.path == "/version": // which is for all known callers
				case token != "" && status/100 == 2 && !(r.scope == auth.ScopeRead && token == reader) && !(r.scope == auth.ScopeRun && token == runner):
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
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
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

func TestMalformedHost(t *testing.T) {
	d := start(t)
	for host, status := range map[string]int{"localhost": 200, "[::1]:80": 200, "[::1": 400, "::1": 400, "[::1]x": 400, "a:b": 400} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(limit))
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if want := fmt.Sprintf("HTTP/1.1 %d ", status); !strings.HasPrefix(string(answer), want) {
			t.Errorf("Host: %s is answered with %q", host, answer)
		}
	}
}

// slowly serves in a bubble, and returns a connection of a test's own to it.
func slowly(t *testing.T, tokens string) net.Conn {
	t.Helper()
	l := sockets.NewInmemSocket("towline", 0)
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	o := api.Options{Metrics: prometheus.NewRegistry(), Log: quiet, Hosts: []string{"towline"}, Tokens: authtest.Open(t, authtest.File(t, tokens), io.Discard)}
	server := connections.NewServer(newHandler(t, nil, o))
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

func TestSlowSender(t *testing.T) {
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

// Docker's paths are taken as they are, the others as they would be when clean.
func TestUncleanDockerPaths(t *testing.T) {
	g := start(t).guarded()
	for _, path := range []string{
		"/version/../healthz", "/_ping/../healthz", "/info/../healthz", "/v1.41/../healthz", "/v1.41/version/../../healthz",
		"/images/x/json/../../../healthz", "/images/create/../../v1/session",
	} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			if status, _ := raw(t, g, method, path, "", ""); status != http.StatusForbidden {
				t.Errorf("%s %s without a token: %d", method, path, status)
			}
		}
	}
	for path, scope := range map[string]string{"/info": reader, "/images/alpine/json": reader, "/v1.41/info": reader, "/images/create?fromImage=alpine": pulls, "/version": runner, "/_ping": pulls} {
		method := "GET"
		if scope == pulls && path != "/_ping" {
			method = "POST"
		}
		for _, token := range []string{reader, pulls, runner} {
			status, _ := raw(t, g, method, path, token, "")
			open := token == scope || path == "/version" || path == "/_ping"
			if open == (status == http.StatusForbidden) {
				t.Errorf("%s %s with %s: %d", method, path, token, status)
			}
		}
	}
}
