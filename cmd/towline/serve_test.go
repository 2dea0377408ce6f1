package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/cmd/towline/daemon"
	"github.com/towline/towline/cmd/towline/pull"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// config listens in a new directory and calls an engine that is not there.
func config(t *testing.T) (c configs.Config, path string) {
	t.Helper()
	path = filepath.Join(directory(t), "towline", "s")
	c = configs.Default()
	c.Listen = []string{"unix://" + path}
	c.StateDir = filepath.Join(filepath.Dir(filepath.Dir(path)), "state")
	c.Engine.Host = "unix:///nowhere/docker.sock"
	c.Log.Level = "error"
	return c, path
}

// serveLogged runs the daemon, with a log that is read.
func serveLogged(ctx context.Context, c configs.Config) error {
	out := daemon.NewLog(os.Stderr)
	defer out.Close()
	return daemon.Run(ctx, daemon.Options{Config: c, Log: out, Version: version, Checker: storeChecker()})
}

// startServe runs the daemon until the function it returns is called, which
// returns how it ended.
func startServe(t *testing.T, c configs.Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serveLogged(ctx, c) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { stop() })
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, address := range c.Listen {
		for {
			network, at, _ := strings.Cut(address, "://")
			if conn, err := net.Dial(network, at); err == nil {
				conn.Close()
				break
			}
			select {
			case err := <-ended:
				t.Fatalf("it ended: %v", err)
			case <-tick.C:
			}
		}
	}
	return stop
}

func get(t *testing.T, path, url string) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://towline" + url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

func TestServe(t *testing.T) {
	c, path := config(t)
	stop := startServe(t, c)
	for url, want := range map[string]string{"/healthz": "200 ", "/readyz": "503 ", "/v1/engine": `200 {"reachable":false`} {
		if got := get(t, path, url); !strings.HasPrefix(got, want) {
			t.Errorf("%s is answered with %s", url, got)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if err := stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("its socket is still there: %v", err)
	}
}

func TestServeRefusesWhatOthersUse(t *testing.T) {
	c, path := config(t)
	startServe(t, c)
	if err := serveLogged(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.StateDir) || !strings.Contains(err.Error(), "another towline") {
		t.Errorf("a second daemon on the state directory: %v", err)
	}
	other := filepath.Join(filepath.Dir(path), "free")
	c.StateDir = directory(t)
	c.Listen = []string{"unix://" + other, "unix://" + path}
	if err := serveLogged(t.Context(), c); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another daemon answers there") {
		t.Errorf("a second daemon on the socket: %v", err)
	}
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("the socket that was free is left behind: %v", err)
	}
	if got := get(t, path, "/healthz"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("after that, the first daemon answers %s", got)
	}

	file := filepath.Join(directory(t), "important")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Listen = []string{"unix://" + file}
	if err := serveLogged(t.Context(), c); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that is no socket: %v", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "x" {
		t.Errorf("the file is %q, %v", content, err)
	}
	c.Listen = []string{"unix:///proc/nowhere/s"}
	if err := serveLogged(t.Context(), c); err == nil || !strings.Contains(err.Error(), "/proc/nowhere") {
		t.Errorf("a directory that cannot be made: %v", err)
	}
	c.Engine.Host = "ssh://engine"
	if err := serveLogged(t.Context(), c); err == nil || !strings.Contains(err.Error(), "ssh") {
		t.Errorf("an engine that cannot be called: %v", err)
	}
}

func TestServeReplacesADeadSocket(t *testing.T) {
	c, path := config(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	startServe(t, c)
	if got := get(t, path, "/healthz"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("it answers %s", got)
	}
}

// engineSocket puts a scripted engine behind a unix socket.
func engineSocket(t *testing.T) (host string, scripted *enginetest.Engine) {
	t.Helper()
	scripted = enginetest.New(t)
	path := filepath.Join(directory(t), "engine")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := scripted.Dial(context.Background())
			if err != nil {
				near.Close()
				continue
			}
			pipe := func(to, from net.Conn) {
				io.Copy(to, from)
				to.Close()
				from.Close()
			}
			work.Go(func() { pipe(near, far) })
			work.Go(func() { pipe(far, near) })
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return "unix://" + path, scripted
}

func TestServeAndPullTogether(t *testing.T) {
	c, path := config(t)
	host, engine := engineSocket(t)
	c.Engine.Host = host
	c.Log.Format = "json"
	playFresh(engine)
	engine.Script("slow", func(p *enginetest.Pull) { <-p.Gone() })
	stop := startServe(t, c)
	if code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "--host", "unix://"+path); code != 0 || !strings.Contains(out, ": pulled, sha256:") {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
	// A client that waits gets the result after the daemon has restarted.
	caller := newClient(t, "unix://"+path)
	told, ended := make(chan struct{}), make(chan error)
	go func() {
		seen := sync.OnceFunc(func() { close(told) })
		ended <- pull.All(context.Background(), caller, client.PullRequest{}, []string{"slow"}, nil, showing(func(*puller.Job, puller.Event) { seen() }))
	}()
	<-told
	if err := stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	engine.Script("slow", enginetest.Serve(enginetest.NewImage("slow", 9)))
	startServe(t, c)
	if err := <-ended; err != nil {
		t.Errorf("the pull that was under way ends with %v", err)
	}
}

func TestServeRules(t *testing.T) {
	c, path := config(t)
	c.Rules.Pull.Deny = []string{"docker.io/**"}
	startServe(t, c)
	if got := get(t, path, "/images/alpine/json"); !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "rules.pull.deny forbids docker.io/**") {
		t.Errorf("what is forbidden is answered with %s", got)
	}
	if got := get(t, path, "/images/registry.test/app/json"); !strings.HasPrefix(got, "503 ") { // there is no engine
		t.Errorf("what is not is answered with %s", got)
	}
}

func TestServeNamesTheWrongSetting(t *testing.T) {
	for want, change := range map[string]func(*configs.Config){
		`configuration: rules.pull.deny: "alpine" does not begin with a registry`: func(c *configs.Config) { c.Rules.Pull.Deny = []string{"alpine"} },
		"configuration: rules.run.policies: ":                                     func(c *configs.Config) { c.Rules.Run.Policies = []string{"sometimes"} },
		"configuration: registries.allow_private: ":                               func(c *configs.Config) { c.Registries.AllowPrivate = []string{"http://x"} },
		"configuration: registries.credentials[0].username: ":                     func(c *configs.Config) { c.Registries.Credentials = []configs.Credentials{{Registry: "ghcr.io"}} },
	} {
		c, _ := config(t)
		change(&c)
		if err := serveLogged(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v does not begin with %s", err, want)
		}
	}
}
