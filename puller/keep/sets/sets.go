package sets

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/index"
	"github.com/towline/towline/puller/keep/learned"
	"github.com/towline/towline/puller/keep/setfile"
	"github.com/towline/towline/puller/store"
)

// Engine is what Sets ask of an engine beside what a Service tells.
type Engine interface {
	Images(ctx context.Context, shared bool) ([]engines.ImageSummary, error)
	AllContainers(ctx context.Context) ([]engines.ContainerState, error)
	Events(ctx context.Context, since time.Time, each func(engines.Event)) error
}

// Options are what Sets need.
type Options struct {
	Service puller.Service
	// Claims keep images from being removed while a set comes to have them. nil is for none.
	Claims  *claim.Claims
	Engine  Engine
	Records store.Records
	Host    string // which host this is, for its part of jitters
	Dir     string // of files of sets, "" for none
	Compose setfile.Compose
	Learn   Learn
	// Changed is told of images that somebody else has removed, and of those that were
	// pulled again; nil for nobody. It may wait for a disk.
	Changed func(puller.ImageChange)
	// Collected reports whether a collection has removed a name since a time; nil for never.
	Collected func(name string, since time.Time) bool
	Log       logrus.FieldLogger
	Metrics   prometheus.Registerer // nil for none
}

// Sets are all sets of a host. Their methods may be called from anywhere.
type Sets struct {
	o       Options
	wake    chan struct{}   // has something in it after Run may have more to do
	files   *files          // nil for none
	learned *learned.Images // nil for none

	saving sync.Mutex // one change, and one begin of a refresh, at a time; taken before mu

	mu       sync.Mutex
	all      map[string]*set
	byKey    index.Index // names of sets, by set.keys
	images   int         // of all sets
	faults   []keep.SetFault
	started  []running // jobs that Run has not taken up yet
	stranded time.Time // since when the engine does not say what it has
}

// Open reads the sets that are kept, and the files. Run must be called for them to be
// refreshed.
func Open(o Options) (*Sets, error) {
	s := &Sets{o: o, wake: make(chan struct{}, 1), all: make(map[string]*set), byKey: make(index.Index)}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("load the sets: %w", err)
	}
	if err := s.openLearned(); err != nil {
		return nil, err
	}
	s.files = s.newFiles(o.Dir)
	s.readFiles(context.Background())
	if o.Metrics != nil {
		o.Metrics.MustRegister(collector{s})
	}
	return s, nil
}

// now returns what the system's clock says: a schedule goes by it, also after a host slept.
func now() time.Time { return time.Now().Round(0).UTC() }

func (s *Sets) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func errNoSet(name string) error {
	return puller.Errorf(puller.ErrNotFound, "there is no set %q", puller.Clip(name))
}

// put makes a set known, in the place of the one with its name. mu is held.
func (s *Sets) put(one *set) {
	s.drop(one.name)
	s.all[one.name] = one
	s.byKey.Add(one.name, one.keys())
	s.images += len(one.images)
}

// drop forgets a set. mu is held.
func (s *Sets) drop(name string) {
	one := s.all[name]
	if one == nil {
		return
	}
	delete(s.all, name)
	s.byKey.Remove(name, one.keys())
	s.images -= len(one.images)
}

// get returns a set, or nil.
func (s *Sets) get(name string) *set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[name]
}

// Sets implements keep.Service.
func (s *Sets) Sets() ([]keep.Set, []keep.SetFault) {
	s.mu.Lock()
	sorted := slices.Sorted(maps.Keys(s.all))
	faults := slices.Clone(s.faults)
	s.mu.Unlock()
	all := []keep.Set{}
	for _, name := range sorted {
		if v, err := s.Set(name); err == nil {
			v.Images = nil
			all = append(all, v)
		}
	}
	return all, faults
}

// Set implements keep.Service.
func (s *Sets) Set(name string) (keep.Set, error) {
	s.mu.Lock()
	one := s.all[name]
	refreshes := ""
	if one != nil && one.running {
		refreshes = one.job
	}
	s.mu.Unlock()
	if one == nil {
		return keep.Set{}, errNoSet(name)
	}
	var job *puller.Job
	if refreshes != "" {
		if j, err := s.o.Service.Job(refreshes); err == nil { // not under a lock
			job = &j
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if job != nil && (!one.running || one.job != job.ID) {
		job = nil // it has ended meanwhile
	}
	return one.view(job), nil
}

// Protections returns the sets that an image is in. See keep.Protector.
func (s *Sets) Protections(id string, references []string) []keep.Protection {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]bool)
	for _, key := range append([]string{id}, references...) {
		maps.Copy(found, s.byKey[key])
	}
	var all []keep.Protection
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, keep.Protection{Kind: keep.ProtectionSet, Name: name, Protects: *s.all[name].Protect})
	}
	return all
}

// collector has the metrics of sets.
type collector struct{ sets *Sets }

var imagesMetric = prometheus.NewDesc("towline_set_images", "Images of sets, by set and state.", []string{"set", "state"}, nil)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) { out <- imagesMetric }

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.sets.mu.Lock()
	defer c.sets.mu.Unlock()
	for name, one := range c.sets.all {
		counts := one.view(nil).Counts
		for _, state := range keep.SetStates {
			out <- prometheus.MustNewConstMetric(imagesMetric, prometheus.GaugeValue, float64(counts[state]), name, string(state))
		}
	}
}

// sorted returns all sets by name.
func (s *Sets) sorted() []*set {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*set, 0, len(s.all))
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		all = append(all, s.all[name])
	}
	return all
}
