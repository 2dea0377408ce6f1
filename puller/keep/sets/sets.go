package sets

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/index"
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
	o         Options
	wake      wake
	table     table
	refreshes *refreshes
	looks     *looks
	files     *files      // nil for none
	learned   *learnedSet // nil for none
}

// Open reads the sets that are kept, and the files. Run must be called for them to be
// refreshed.
func Open(o Options) (*Sets, error) {
	s := &Sets{o: o, wake: make(wake, 1), table: table{all: make(map[string]*set), byKey: make(index.Index)}}
	s.refreshes = &refreshes{service: o.Service, runs: runs{o.Records, o.Log}, table: &s.table, wake: s.wake, changed: o.Changed, log: o.Log}
	s.looks = &looks{engine: o.Engine, service: o.Service, table: &s.table, changed: o.Changed, collected: o.Collected, log: o.Log}
	if err := load(o, &s.table, s.refreshes); err != nil {
		return nil, fmt.Errorf("load the sets: %w", err)
	}
	var err error
	if s.learned, err = openLearned(o, &s.table); err != nil {
		return nil, err
	}
	s.files = newFiles(o, &s.table, s.refreshes)
	s.files.update(context.Background())
	if o.Metrics != nil {
		o.Metrics.MustRegister(collector{&s.table})
	}
	return s, nil
}

// now returns what the system's clock says: a schedule goes by it, also after a host slept.
func now() time.Time { return time.Now().Round(0).UTC() }

// wake has something in it after Run may have more to do.
type wake chan struct{}

func (w wake) nudge() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// tell has somebody told of changes of images; nil is nobody. No lock is held.
func tell(somebody func(puller.ImageChange), changes []puller.ImageChange) {
	for _, c := range changes {
		if somebody != nil {
			somebody(c)
		}
	}
}

func errNoSet(name string) error {
	return puller.Errorf(puller.ErrNotFound, "there is no set %q", puller.Clip(name))
}

// Sets implements keep.Service.
func (s *Sets) Sets() ([]keep.Set, []keep.SetFault) {
	faults := s.files.Faults()
	all := []keep.Set{}
	for _, one := range s.table.sorted() {
		if v, err := s.Set(one.name); err == nil {
			v.Images = nil
			all = append(all, v)
		}
	}
	return all, faults
}

// Set implements keep.Service.
func (s *Sets) Set(name string) (keep.Set, error) {
	s.table.mu.Lock()
	one := s.table.all[name]
	refreshes := ""
	if one != nil && one.running {
		refreshes = one.job
	}
	s.table.mu.Unlock()
	if one == nil {
		return keep.Set{}, errNoSet(name)
	}
	var job *puller.Job
	if refreshes != "" {
		if j, err := s.o.Service.Job(refreshes); err == nil { // not under a lock
			job = &j
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if job != nil && (!one.running || one.job != job.ID) {
		job = nil // it has ended meanwhile
	}
	return s.table.view(one, job), nil
}

// Ended returns a channel that is closed when the next job of a set has ended, and Set tells
// what it has brought.
func (s *Sets) Ended() <-chan struct{} { return s.table.awaitEnd() }

// Protections returns the sets that an image is in. See keep.Protector.
func (s *Sets) Protections(id string, references []string) []keep.Protection {
	return s.table.protections(id, references)
}

// collector has the metrics of sets.
type collector struct{ table *table }

var (
	setsMetric   = prometheus.NewDesc("towline_sets", "Sets of images that this host has.", nil, nil)
	imagesMetric = prometheus.NewDesc("towline_set_images", "Images of sets, by set and state.", []string{"set", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	out <- setsMetric
	out <- imagesMetric
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	all := c.table.counts()
	out <- prometheus.MustNewConstMetric(setsMetric, prometheus.GaugeValue, float64(len(all)))
	for name, counts := range all {
		for _, state := range keep.SetStates {
			out <- prometheus.MustNewConstMetric(imagesMetric, prometheus.GaugeValue, float64(counts[state]), name, string(state))
		}
	}
}
