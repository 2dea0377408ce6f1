// Package mirror makes the pulls of an engine faster. It fetches an image with many
// connections, keeps what arrived, and serves it to the engine on loopback.
//
// What the engine pulls under the image's own name decides: it finds the layers that it
// got from here, and whatever it does not find it fetches by itself. So a fault of this
// package costs time, and no pull.
package mirror

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/mirror/alias"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/endpoint"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/images"
	"github.com/towline/towline/puller/mirror/sharing"
	"github.com/towline/towline/puller/mirror/way"
)

// Options are what a Mirror is made with.
type Options struct {
	Engine   engines.Engine
	Registry puller.Registry
	Dir      string // of the cache; it is made
	// Mode is "auto", or one of the ways. Auto leaves out what would not gain.
	Mode string
	// Listen is a loopback address with a port, which the engine is to reach.
	Listen string
	// HostsDir is where Towline may write _default/hosts.toml; "" for nowhere.
	HostsDir string
	// PullThrough serves public images to pulls that are not Towline's.
	PullThrough              bool
	Connections, PerRegistry int
	Chunk, Cache, MinSize    int64         // bytes
	Rate                     int64         // bytes a second; 0 is without limit
	Peers                    sharing.Peers // hosts that share images with this one; nil for none
	Rules                    puller.Rules  // that images must pass which are not pulled by a job; nil for none
	Log                      logrus.FieldLogger
	Metrics                  prometheus.Registerer // nil for none
}

// Mirror implements engines.Accelerator.
type Mirror struct {
	o       Options
	store   *blobs.Store
	fetcher *fetch.Fetcher
	images  *images.Images
	aliases *alias.Names
	ways    *way.Ways
	links   links
	metrics metrics

	started chan struct{} // closed when Run has begun to serve, or can't

	mu      sync.Mutex
	ctx     context.Context           // of what no job wants
	address string                    // HOST:PORT of the endpoint; "" while it does not listen
	fault   string                    // why it does not
	trials  map[string]*way.Trial     // by their temporary name
	pulls   map[string]*acceleration  // that are under way, by their temporary name
	named   map[string]*acceleration  // those that the engine asks for under the image's own name
	public  map[string][]*public      // what is served to pulls that are not Towline's, by repository, the newest last
	shared  map[sharing.Image]*shared // what other hosts ask for
	closing sync.WaitGroup            // one for each of the last two
}

var _ engines.Accelerator = (*Mirror)(nil)

// New returns a Mirror. It accelerates nothing before Run has begun.
func New(o Options) *Mirror {
	m := &Mirror{
		o:       o,
		store:   blobs.New(o.Dir, blobs.Options{Cap: o.Cache, Log: o.Log}),
		fetcher: fetch.New(fetch.Options{Connections: o.Connections, PerRegistry: o.PerRegistry, Chunk: o.Chunk, Rate: o.Rate}),
		aliases: alias.New(filepath.Join(o.Dir, "names"), o.Engine, o.Log),
		links:   links{full: make(map[string]link)},
		fault:   "Towline is starting", started: make(chan struct{}),
		trials: make(map[string]*way.Trial), pulls: make(map[string]*acceleration), named: make(map[string]*acceleration),
		public: make(map[string][]*public), shared: make(map[sharing.Image]*shared),
	}
	m.ways = way.New(way.Options{
		Engine: o.Engine, Mode: o.Mode, HostsDir: o.HostsDir, Names: m.aliases, Endpoint: m.endpoint, Serve: m.serveTrial, Log: o.Log,
	})
	m.metrics = newMetrics(m)
	key := make([]byte, 32)
	rand.Read(key) // never fails
	m.images = images.New(images.Options{
		Registry: o.Registry, Peers: o.Peers, Store: m.store, Fetcher: m.fetcher, Key: key,
		Fetched: m.measure, FromRegistry: m.metrics.fromRegistry, Waited: m.metrics.waited,
	})
	return m
}

// sweepEvery is how often temporary names are removed that could not be removed before.
const sweepEvery = 5 * time.Minute

// Run serves the engine until ctx ends. Where it can't, it logs why, and pulls go on
// without it.
func (m *Mirror) Run(ctx context.Context) {
	if m.o.Mode == string(puller.WayNone) {
		m.setFault("mirror.mode is none")
		close(m.started)
		m.tidy(ctx)
		return
	}
	if err := m.serve(ctx); err != nil {
		m.o.Log.Warn("pulls are not accelerated: " + err.Error())
		m.setFault(err.Error())
		close(m.started)
		m.tidy(ctx)
	}
}

// serve serves the engine until ctx ends. The error is why it can't.
func (m *Mirror) serve(ctx context.Context) error {
	if err := m.store.Open(); err != nil {
		return fmt.Errorf("the cache in %s can't be used: %w", m.o.Dir, err)
	}
	defer m.store.Close()
	defer m.closing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := endpoint.New(endpoint.Options{Listen: m.o.Listen, Content: (*content)(m), Log: m.o.Log})
	listener, err := server.Listen()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.ctx = ctx
	m.address, m.fault = listener.Addr().String(), ""
	m.mu.Unlock()
	close(m.started)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, listener) })
	group.Go(func() error {
		m.ways.Find(ctx) // so that the first pull need not wait for the trial
		m.tidy(ctx)
		return nil
	})
	err = group.Wait()
	m.setFault("the endpoint has ended") // so nothing is opened any more
	if err != nil {
		m.o.Log.WithError(err).Error("the endpoint of the accelerator has failed")
	}
	return nil
}

// tidy removes temporary names that are left over, until ctx ends or none is.
func (m *Mirror) tidy(ctx context.Context) {
	for m.aliases.Sweep(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
	}
	<-ctx.Done()
}

func (m *Mirror) setFault(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.address, m.fault = "", why
}

// endpoint returns where the engine reaches Towline, or why it does not.
func (m *Mirror) endpoint() (address, fault string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.address, m.fault
}

// State implements engines.Accelerator.
func (m *Mirror) State() puller.AcceleratorState {
	way, reason := m.presentWay()
	return puller.AcceleratorState{
		Way: way, Reason: reason,
		Connections: m.fetcher.Stats().Connections, MaxConnections: m.o.Connections,
		CacheBytes: m.store.Stats().Bytes, MaxCacheBytes: m.o.Cache,
	}
}

// presentWay returns how the engine's pulls are accelerated now, and why so. It asks
// nobody.
func (m *Mirror) presentWay() (puller.Way, string) {
	if _, fault := m.endpoint(); fault != "" {
		return puller.WayNone, fault
	}
	return m.ways.Last()
}

// CoolDown implements engines.Accelerator.
func (m *Mirror) CoolDown(registry string, d time.Duration) { m.fetcher.CoolDown(registry, d) }

// Cached implements engines.Accelerator.
func (m *Mirror) Cached(all []puller.Blob) (cached []puller.Blob) {
	if way, _ := m.presentWay(); way == puller.WayNone {
		return nil
	}
	for _, b := range all {
		if m.store.Holds(b.Digest, b.Size) {
			cached = append(cached, b)
		}
	}
	return cached
}
