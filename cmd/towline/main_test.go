package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/keep/history"
	"github.com/towline/towline/puller/keep/keeper"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/sets"
	imageusage "github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/storetest"
)

// asTowline names the variable that makes the test binary the program. It has the
// arguments, separated by the unit separator.
const asTowline = "TEST_AS_TOWLINE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == checkStore {
		main()
	}
	if args, ok := os.LookupEnv(asTowline); ok {
		os.Args = append(os.Args[:1], strings.Split(args, "\x1f")...)
		main()
	}
	for _, name := range []string{"HOST", "TOKEN", "TLSCACERT", "TLSCERT", "TLSKEY"} {
		os.Unsetenv("TOWLINE_" + name)
	}
	os.Setenv("DOCKER_CONFIG", "/nowhere") // the logins of this user are not sent
	os.Unsetenv("DOCKER_AUTH_CONFIG")
	goleak.VerifyTestMain(m)
}

// run runs a command with both outputs in one.
func run(ctx context.Context, args ...string) (code int, out string, err error) {
	var both bytes.Buffer
	code, err = runTo(ctx, &both, &both, args...)
	return code, both.String(), err
}

// runApart runs a command with its outputs apart.
func runApart(ctx context.Context, args ...string) (code int, out, errs string, err error) {
	var o, e bytes.Buffer
	code, err = runTo(ctx, &o, &e, args...)
	return code, o.String(), e.String(), err
}

// runTo runs a command. It prints no error, which main does.
func runTo(ctx context.Context, out, errs io.Writer, args ...string) (code int, err error) {
	root := newRoot()
	root.SetOut(out)
	root.SetErr(errs)
	root.SetArgs(args)
	err = root.ExecuteContext(ctx)
	return exit.Code(err), err
}

// itself returns the test binary as the program, with the arguments.
func itself(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), asTowline+"="+strings.Join(args, "\x1f"))
	return cmd
}

// directory returns a new one whose path is short enough for sockets.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "towline")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startDaemon serves the API over a scripted engine on a unix socket, and
// returns its address.
func startDaemon(t *testing.T) (host string, scripted *enginetest.Engine, p *jobs.Service) {
	t.Helper()
	scripted = enginetest.New(t)
	engine, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	dir := directory(t)
	if p, err = jobs.New(engine, jobs.Options{
		Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), Log: log,
		OutputDir: filepath.Join(dir, "output"), OutputLimit: 1 << 20,
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	images := collect.New(collect.Options{Engine: engine, Usage: imageusage.New(imageusage.Options{Engine: engine, Records: storetest.New().Records(), Log: log}), Collect: collect.All, Low: .8, Log: log})
	records := storetest.New().Records()
	leases, err := lease.Open(lease.Options{Service: p, Records: records, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	warm, err := sets.Open(sets.Options{Service: p, Engine: engine, Records: records, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	past, err := history.Open(history.Options{Records: records, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	past.Begin(p.Events())
	past.Add(puller.ImageChange{Action: puller.ImageRemoved, Names: []string{"docker.io/library/nginx:1"}, Why: "high"})
	keeper := keeper.New(warm, leases)
	ctx, stop := context.WithCancel(context.Background())
	server := connections.NewServer(contracttest.Wrap(t, api.New(leases.Jobs(), api.Options{
		Metrics: prometheus.NewRegistry(), Log: log, Runs: true, Images: images, History: past, Keeper: keeper,
	})))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	serving.Go(func() { keeper.Run(ctx) })
	t.Cleanup(func() {
		stop()
		p.Close(context.Background())
		server.Close()
		serving.Wait()
		engine.Close()
	})
	return "unix://" + path, scripted, p
}

// newClient returns a client of a host.
func newClient(t *testing.T, host string) *client.Client {
	t.Helper()
	c, err := client.New(host, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// showing is a display that calls a function.
type showing func(*puller.Job, puller.Event)

func (s showing) Show(j *puller.Job, e puller.Event) { s(j, e) }
func (showing) Refuse(string, error)                 {}
func (showing) Close()                               {}

// nasty is text that moves the cursor, breaks lines and hides what follows.
const nasty = "x\x1b[2J\r\n\x07\u009b31m\u202etxt\u2028\x00\x7f"

// checkSafe fails where a text has more than lines of printable characters.
func checkSafe(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U is printed: %q", r, text)
			return
		}
	}
}

// checkWords fails where a text lacks one of the words.
func checkWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}
