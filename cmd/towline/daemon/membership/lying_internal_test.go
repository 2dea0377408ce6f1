package membership

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/host"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/sets"
	"github.com/towline/towline/puller/storetest"
)

// pinned is a registry that has one image.
type pinned struct {
	puller.Registry
	digest string
}

func (r pinned) Head(context.Context, string, puller.Credentials) (string, error) {
	return r.digest, nil
}

func (r pinned) Manifest(context.Context, puller.ManifestQuery) (puller.Manifest, error) {
	return puller.Manifest{}, puller.Errorf(puller.ErrNotFound, "no manifest")
}

// A daemon whose engine says what is not so, or loses an image, does not say that it has proven it.
func TestLyingEngine(t *testing.T) {
	log := logrus.New()
	log.SetOutput(t.Output())
	scripted := enginetest.New(t)
	engine, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
	if err != nil {
		t.Fatal(err)
	}
	p, err := jobs.New(engine, jobs.Options{
		Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), Log: log, OutputDir: t.TempDir(), OutputLimit: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	records := storetest.New().Records()
	warm, err := sets.Open(sets.Options{Service: p, Engine: engine, Records: records, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := configs.Default()
	config.StateDir, config.Fleet = t.TempDir(), configs.Fleet{Name: "ci", Embedded: true, Listen: listener.Addr().String()}
	listener.Close()
	image := enginetest.NewImage("registry.test/app:v1", 1)
	f, err := Open(Options{
		Config: config, Engine: engine, Instance: "one", Version: "1.2.0", Records: records, Service: p, Registry: pinned{digest: enginetest.Digest(image)},
		Sets: warm, Groups: host.OpenGroups("ci", "one", records, log), Log: log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return warm.Run(ctx) })
	f.Run(ctx, &running)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		p.Close(context.Background())
		engine.Close()
	})
	wait, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	until := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-wait.Done():
				t.Fatalf("it is not so: %s", what)
			}
		}
	}
	until("this host is in its fleet", func() bool {
		hosts, err := f.Service().Hosts()
		return err == nil && len(hosts) == 1 && hosts[0].Live
	})

	ref := "registry.test/app@" + enginetest.Digest(image)
	lie := func(_ string, answer map[string]any) {
		answer["RepoDigests"] = []string{"registry.test/app@" + fmt.Sprintf("sha256:%064x", 99)}
	}
	again := func(want fleet.State) {
		t.Helper()
		job, err := warm.RefreshSet(keep.FleetPrefix + "app")
		if err == nil {
			_, err = p.Wait(wait, job.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		until("it is "+string(want), func() bool {
			s, err := f.Service().Set("app")
			return err == nil && s.Counts[want] == 1
		})
	}
	scripted.Script(ref, enginetest.Serve(image))
	scripted.OnAnswer(lie)
	set, err := f.Service().PutSet(wait, "app", fleet.SetRequest{Images: puller.Images{{Image: ref}}})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.Service().Wait(wait, "app", set.Generation); puller.KindOf(err) != puller.ErrCorrupt || s.Counts[fleet.StateFailed] != 1 || !strings.Contains(err.Error(), "one (failed: ") {
		t.Errorf("%+v, %v", s.Members, err)
	}
	scripted.OnAnswer(nil)
	again(fleet.StateProven)
	scripted.OnAnswer(lie) // of what is there
	again(fleet.StateFailed)
	scripted.OnAnswer(nil)
	again(fleet.StateProven)
	scripted.Script(ref, nil)
	scripted.Remove(ref)
	scripted.Remove("registry.test/app:v1")
	again(fleet.StateFailed)
}
