package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/keep/history"
	"github.com/towline/towline/puller/keep/keeper"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/room"
	"github.com/towline/towline/puller/keep/sets"
	"github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/rules"
	"github.com/towline/towline/puller/store"
)

// images is what knows and collects the engine's images.
type images struct {
	history   *history.History
	usage     *usage.Table
	collector *collect.Collector
	admission *room.Admission
}

type imagesOptions struct {
	config      configs.Config
	engine      *docker.Engine
	registry    puller.Registry
	accelerator engines.Accelerator
	protector   keep.Protector // nil for none
	claims      *claim.Claims
	records     store.Records
	log         logrus.FieldLogger
	metrics     prometheus.Registerer
}

// newImages reads what is known of the engine's images.
func newImages(o imagesOptions) (*images, error) {
	keep := o.config.Keep
	protect, err := rules.ParsePatterns("keep.protect", keep.Protect)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	changes, err := history.Open(history.Options{Records: o.records, Log: o.log})
	if err != nil {
		return nil, err
	}
	table := usage.New(usage.Options{Engine: o.engine, Records: o.records, Log: o.log})
	if err := table.Load(); err != nil {
		return nil, err
	}
	collector := collect.New(collect.Options{
		Engine: o.engine, Usage: table, Protector: o.protector, Protect: protect.Match, Patterns: keep.Protect,
		Collect: collect.Mode(keep.Collect), High: keep.High.Share(), Low: keep.Low.Share(), MinAge: keep.MinAge, MaxUnused: keep.MaxUnused,
		Interval: keep.Interval, MaxPerCycle: keep.MaxPerCycle, Claims: o.claims, History: changes, Log: o.log, Metrics: o.metrics,
	})
	admission := room.New(room.Options{
		Engine: o.engine, Registry: o.registry, Records: o.records, Reserve: keep.Reserve, Free: collector.Free, Spool: o.spooled, Log: o.log, Metrics: o.metrics,
	})
	if err := admission.Load(); err != nil {
		return nil, err
	}
	return &images{changes, table, collector, admission}, nil
}

// spooled returns how many bytes of blobs the accelerator would store on the engine's disk.
func (o imagesOptions) spooled(blobs []puller.Blob) (bytes int64) {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if o.accelerator.State().Way == puller.WayNone || !o.engine.HasOnDisk(ctx, o.config.StateDir) {
		return 0
	}
	for _, b := range blobs {
		bytes += b.Size
	}
	for _, b := range o.accelerator.Cached(blobs) {
		bytes -= b.Size
	}
	return min(bytes, o.config.Mirror.Cache)
}

type keeperOptions struct {
	config  configs.Keep
	service puller.Service
	engine  *docker.Engine
	store   *bolt.Store
	history *history.History
	claims  *claim.Claims
	log     logrus.FieldLogger
	metrics prometheus.Registerer
}

// newKeeper reads the sets and leases.
func newKeeper(o keeperOptions) (keeper.Keeper, error) {
	leases, err := lease.Open(lease.Options{Service: o.service, Claims: o.claims, Records: o.store.Records(), Log: o.log, Metrics: o.metrics})
	if err != nil {
		return keeper.Keeper{}, err
	}
	learn := sets.Learn{}
	if o.config.Learn {
		learn = sets.Learn{For: o.config.LearnFor, Schedule: o.config.LearnSchedule}
	}
	warm, err := sets.Open(sets.Options{
		Learn: learn, Changed: o.history.Add, Collected: o.history.Collected,
		Service: o.service, Claims: o.claims, Engine: o.engine, Records: o.store.Records(), Host: o.store.Instance(), Dir: o.config.SetsDir, Log: o.log, Metrics: o.metrics,
		Compose: func(ctx context.Context, content []byte, profiles []string) (puller.PrewarmRequest, error) {
			return compose.Parse(ctx, content, nil, profiles)
		},
	})
	return keeper.New(warm, leases), err
}

// run collects until ctx ends, and follows the engine until serving does: after the jobs
// have ended, so that it is known who brought the last images.
func (i *images) run(ctx, serving context.Context, group *errgroup.Group, service puller.Service) {
	group.Go(func() error { return i.usage.Run(serving, service) })
	group.Go(func() error { return i.collector.Run(ctx, service) })
}
