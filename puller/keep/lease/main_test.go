package lease_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	good  = "registry.test/good:v1"
	other = "registry.test/other:v1"
)

// host has leases over a real Service over a scripted engine, in a bubble of its own time.
type host struct {
	*testing.T
	*lease.Leases
	jobs   *lease.Service
	engine *enginetest.Engine
	store  *storetest.Store
	log    *strings.Builder
	shift  atomic.Int64 // of the system's clock
	open   func()
	close  func()
}

func withHost(t *testing.T, test func(h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &host{T: t, engine: enginetest.New(t), store: storetest.New(), log: new(strings.Builder)}
		adapter, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: h.engine.Dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { adapter.Close() })
		logger := logrus.New()
		logger.SetOutput(h.log)
		output := t.TempDir()
		h.open = func() {
			service, err := jobs.New(adapter, jobs.Options{
				Concurrency: 4, Policy: puller.PolicyMissing, Timeout: 24 * time.Hour, Store: h.store, OutputDir: output, OutputLimit: 1 << 20, Log: logger,
			})
			if err != nil {
				t.Fatal(err)
			}
			h.Leases, err = lease.Open(lease.Options{
				Service: service, Records: h.store.Records(), Log: logger, Metrics: prometheus.NewRegistry(),
				Clock: func() time.Time { return time.Now().Add(time.Duration(h.shift.Load())) },
			})
			if err != nil {
				t.Fatal(err)
			}
			h.jobs = h.Leases.Jobs()
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { h.Leases.Run(ctx) })
			h.close = func() {
				cancel()
				running.Wait()
				if err := service.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}
		h.open()
		t.Cleanup(func() { h.close() })
		test(h)
	})
}

// restart has the daemon stop well and start again.
func (h *host) restart() {
	h.close()
	h.store = h.store.Reopen()
	h.open()
}

// crash has the daemon end with nothing kept but what was on disk.
func (h *host) crash() {
	kept := h.store.Reopen()
	h.close()
	h.store = kept
	h.open()
}

func (h *host) add(ttl string, images ...string) keep.Lease {
	h.Helper()
	l, err := h.AddLease(h.Context(), with(keep.LeaseRequest{Images: images, TTL: ttl}, func(r *keep.LeaseRequest) { r.Caller = "ci" }))
	if err != nil {
		h.Fatal(err)
	}
	return l
}

// protects checks which leases protect an image.
func (h *host) protects(id string, names []string, want ...string) {
	h.Helper()
	got := map[string]bool{}
	for _, p := range h.Protections(id, names) {
		if p.Kind != keep.ProtectionLease || !p.Protects || p.Until.IsZero() {
			h.Errorf("a protection is %+v", p)
		}
		got[p.Name] = true
	}
	if len(got) != len(want) {
		h.Errorf("%s %q has the leases %v, not %q", id, names, got, want)
	}
	for _, id := range want {
		if !got[id] {
			h.Errorf("%q lacks the lease %s", names, id)
		}
	}
}

// gone checks that a lease has ended, here and on disk.
func (h *host) gone(id string) {
	h.Helper()
	if l, err := h.Lease(id); puller.KindOf(err) != puller.ErrNotFound {
		h.Errorf("it is there: %+v, %v", l, err)
	}
	if kept, err := h.store.Records().Load("lease"); err != nil || kept[id] != nil {
		h.Errorf("it is on disk: %s, %v", kept[id], err)
	}
}

// expires checks when a lease ends.
func (h *host) expires(id string, want time.Time) {
	h.Helper()
	if l, err := h.Lease(id); err != nil || !l.ExpiresAt.Equal(want) {
		h.Errorf("it ends at %s, not %s: %v", l.ExpiresAt, want.UTC(), err)
	}
}

// with returns a request with what only the daemon sets.
func with[R any](r R, set func(*R)) R {
	set(&r)
	return r
}
