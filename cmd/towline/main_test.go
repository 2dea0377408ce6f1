package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/api"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asTowline names what makes the test binary the program, with the arguments in
// it, between unit separators.
const asTowline = "TEST_AS_TOWLINE"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(asTowline); ok {
		os.Args = append(os.Args[:1], strings.Split(args, "\x1f")...)
		main()
	}
	for _, name := range []string{"HOST", "TOKEN", "TLSCACERT", "TLSCERT", "TLSKEY"} {
		os.Unsetenv("TOWLINE_" + name)
	}
	goleak.VerifyTestMain(m)
}

// run is the program with the arguments.
func run(ctx context.Context, args ...string) (code int, out string, err error) {
	root := newRoot()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetErr(&b)
	root.SetArgs(args)
	err = root.ExecuteContext(ctx)
	return exitCode(err), b.String(), err
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
	server := api.HTTPServer(api.New(p, api.Options{Metrics: prometheus.NewRegistry(), Log: log, Runs: true}))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		p.Close(context.Background())
		server.Close()
		serving.Wait()
		engine.Close()
	})
	return "unix://" + path, scripted, p
}

// checkGolden compares what was got with testdata/NAME.txt.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(name)+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; got:\n%s", file, got)
	}
}

// events are what a job that pulls what was recorded tells, a second between
// any two messages of the engine.
func events(t *testing.T, recording string) (puller.Job, []puller.Event) {
	t.Helper()
	job := puller.Job{ID: "01J", Kind: "pull", State: puller.StateQueued, Image: "127.0.0.1:5000/lab0:v1"}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var all []puller.Event
	tell := func(e puller.Event) {
		e.Time, e.Job = now, job.ID
		all = append(all, e)
	}
	tell(puller.Event{Type: "state", State: puller.StateQueued})
	tell(puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseResolving, Attempt: 1})
	tell(puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhasePulling, Attempt: 1})
	var progress pullstream.Progress
	digest := ""
	layer := func(l pullstream.Layer) {
		totals := progress.Totals(now)
		tell(puller.Event{Type: "layer", Layer: &l, Progress: &totals})
	}
	decoder := pullstream.NewDecoder(bytes.NewReader(transcripts.Load(recording).Body), 0)
	for {
		m, err := decoder.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		if d := m.Digest(); d != "" {
			digest = d
		}
		change := progress.Fold(m, now)
		if change.Layer != nil {
			layer(*change.Layer)
		}
		if change.Notice != "" {
			tell(puller.Event{Type: "notice", Message: change.Notice})
		}
	}
	tell(puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhaseVerifying, Attempt: 1})
	for _, l := range progress.Finish() {
		layer(l)
	}
	tell(puller.Event{Type: "state", State: puller.StateSucceeded, Attempt: 1})
	ended := job
	ended.State = puller.StateSucceeded
	ended.Result = &puller.Result{
		ImageID: "sha256:1d", Digest: digest, Size: 1, Source: puller.SourcePulled,
		Downloaded: progress.Totals(now).Downloaded, DurationSeconds: 12.34,
	}
	tell(puller.Event{Type: "result", Result: &ended})
	return job, all
}
