package collect_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/keep/history"
	"github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine is a scripted engine with a disk, which only images fill. total 0 is for a disk
// that is not known.
type engine struct {
	engines.Engine
	scripted *enginetest.Engine
	total    int64
}

func (e *engine) Disk(context.Context) (*puller.Disk, error) {
	if e.total == 0 {
		return nil, nil
	}
	return &puller.Disk{Total: e.total, Free: max(e.total-e.scripted.Stored(), 0)}, nil
}

// host is an engine with a Service and a Collector, in a bubble. Each image has 1000 bytes,
// and the disk 10,000.
type host struct {
	*testing.T
	engine    *engine
	scripted  *enginetest.Engine
	adapter   *docker.Engine
	records   store.Records
	service   *jobs.Service
	usage     *usage.Table
	collector *collect.Collector
	opts      collect.Options
	log       *strings.Builder // read it after stop
	logged    *logrus.Logger
	stop      func()

	history   *history.History
	claims    claim.Claims
	protector keep.Protector // beside held; nil for none

	mu   sync.Mutex
	held map[string][]keep.Protection // by name
}

var defaults = collect.Options{Collect: collect.Own, High: .8, Low: .5, MinAge: time.Hour, Interval: 5 * time.Minute, MaxPerCycle: 20}

// asked is defaults for a Collector that collects only when it is asked to.
var asked = collect.Options{Collect: collect.Own, High: .8, Low: .5, MinAge: time.Hour, Interval: 1e6 * time.Hour, MaxPerCycle: 20}

func withHost(t *testing.T, use func(*enginetest.Engine), o collect.Options, test func(h *host)) {
	synctest.Test(t, func(t *testing.T) {
		scripted := enginetest.New(t)
		use(scripted)
		adapter, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: scripted.Dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { adapter.Close() })
		h := &host{
			T: t, engine: &engine{adapter, scripted, 10_000}, scripted: scripted, adapter: adapter, opts: o, held: map[string][]keep.Protection{},
			records: storetest.New().Records(), log: new(strings.Builder), logged: logrus.New(),
		}
		h.logged.SetOutput(h.log)
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		h.service, err = jobs.New(h.engine, jobs.Options{Concurrency: 4, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: storetest.New(), OutputDir: t.TempDir(), OutputLimit: 1 << 20, Runs: 4, Log: silent})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.service.Close(context.Background()) })
		h.start()
		t.Cleanup(func() { h.stop() })
		<-time.After(time.Second)
		test(h)
	})
}

// start starts a table and a collector on the records.
func (h *host) start() {
	h.usage = usage.New(usage.Options{Engine: h.engine, Records: h.records, Log: h.logged})
	if err := h.usage.Load(); err != nil {
		h.Fatal(err)
	}
	h.usage.Recall(h.service)
	o := h.opts
	o.Engine, o.Usage, o.Log, o.Protector = h.engine, h.usage, h.logged, h
	var err error
	if h.history, err = history.Open(history.Options{Records: h.records, Log: h.logged}); err != nil {
		h.Fatal(err)
	}
	h.history.Begin(h.service.Events())
	o.Claims, o.History = &h.claims, h.history
	h.collector = collect.New(o)
	ctx, cancel := context.WithCancel(h.Context())
	var running sync.WaitGroup
	running.Go(func() { h.usage.Run(ctx, h.service) })
	running.Go(func() { h.collector.Run(ctx, h.service) })
	h.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	synctest.Wait()
}

// Protections implements keep.Protector.
func (h *host) Protections(id string, names []string) (found []keep.Protection) {
	if h.protector != nil {
		found = h.protector.Protections(id, names)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		found = append(found, h.held[name]...)
	}
	return found
}

// told returns which removals were told, in order.
func (h *host) told() (all []puller.ImageChange) {
	h.Helper()
	page, _, err := h.history.Changes(keep.HistoryFilter{})
	if err != nil {
		h.Fatal(err)
	}
	for _, e := range slices.Backward(page) {
		all = append(all, *e.Image)
	}
	return all
}

func (h *host) hold(name string, by ...keep.Protection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[name] = by
}

func newImage(name string, seed int) puller.Image {
	i := enginetest.NewImage(name, seed)
	i.Size = 1000
	return i
}

// pull has the Service pull an image, and waits for it.
func (h *host) pull(name string, seed int) {
	h.Helper()
	<-time.After(time.Second)
	h.scripted.Script(name, enginetest.Serve(newImage(name, seed)))
	j, err := h.service.Pull(puller.PullRequest{Image: name})
	if err == nil {
		j, err = h.service.Wait(h.Context(), j.ID)
	}
	if err != nil || j.State != puller.StateSucceeded {
		h.Fatalf("it ended with %+v, %v", j.Error, err)
	}
}

// image returns the image that has a name.
func (h *host) image(name string) keep.Image {
	h.Helper()
	synctest.Wait()
	page, _, err := h.collector.Images(h.Context(), keep.ImageFilter{Image: name})
	if err != nil || len(page) != 1 {
		h.Fatalf("%s: there are %+v: %v", name, page, err)
	}
	return page[0]
}

func (h *host) collect(dryRun bool) keep.Collection {
	h.Helper()
	synctest.Wait()
	done, err := h.collector.Collect(h.Context(), dryRun)
	if err != nil {
		h.Fatal(err)
	}
	return done
}

// container adds a container of an image.
func (h *host) container(name string, start bool) (id string) {
	return h.scripted.AddContainer(enginetest.ContainerRequest{Image: h.scripted.IDOf(name)}, start)
}

func image(n int) string { return "registry.test/image" + string(rune('a'+n)) + ":v1" }

func both(t *testing.T, test func(t *testing.T, use func(*enginetest.Engine))) {
	for name, use := range map[string]func(*enginetest.Engine){"graph": graph, "containerd": (*enginetest.Engine).UseContainerdStore} {
		t.Run(name, func(t *testing.T) { test(t, use) })
	}
}

func graph(*enginetest.Engine) {}

// names returns the first names of images.
func names(removed []keep.CollectedImage) (all []string) {
	for _, r := range removed {
		all = append(all, append(r.Names, r.ID)[0])
	}
	return all
}
