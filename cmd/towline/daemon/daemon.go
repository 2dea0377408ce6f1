// Package daemon builds the parts of the daemon from its configuration, and runs them.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/cmd/towline/daemon/membership"
	"github.com/towline/towline/configs"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/keeper"
	"github.com/towline/towline/puller/mirror"
	"github.com/towline/towline/puller/registry"
	"github.com/towline/towline/puller/registry/login"
	"github.com/towline/towline/puller/rules"
)

// shutdownLimit is how long the end of the daemon may take. Readers of events have
// readersLimit of it for their last event.
const (
	shutdownLimit = 10 * time.Second
	readersLimit  = 5 * time.Second
)

// Options are the options of Run. All fields but Reload and Load must be set.
type Options struct {
	Config  configs.Config
	Log     *Log
	Version string   // for the log
	Checker []string // the command line that checks a store's file; see bolt.Options
	// Reload, unless it is nil, has the daemon apply what Load returns of what may change
	// while it runs.
	Reload <-chan os.Signal
	Load   func() (configs.Config, error)
}

// Run runs the daemon until ctx ends. The error names the setting that is wrong.
func Run(ctx context.Context, o Options) error {
	config, out := o.Config, o.Log
	logger := newLogger(config.Log, out)
	out.reportWith(logger)
	metrics := newMetrics(config.StateDir, o.Version)
	metrics.MustRegister(out.metric())
	tracer, endTracing, err := openTracing(ctx, o.Version, logger)
	if err != nil {
		return err
	}
	defer endTracing()
	engine, err := docker.New(docker.Options{
		Host: config.Engine.Host, APIVersion: config.Engine.APIVersion, Log: logger, Metrics: metrics, Tracer: tracer,
	})
	if err != nil {
		return err
	}
	defer engine.Close()
	forbidden, err := rules.Parse("rules", config.Rules.Pull, config.Rules.Run)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var current currentRules
	current.set(forbidden)
	images, err := registry.New(registryOptions(config.Registries, engine))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer images.Close()
	store, err := bolt.Open(ctx, config.StateDir, bolt.Options{Log: logger, Checker: o.Checker})
	if err != nil {
		if ctx.Err() != nil {
			return nil // it was stopped while it checked the store
		}
		return err
	}
	defer store.Close()
	var tokens *auth.Tokens
	if config.Auth.TokenFile != "" {
		if tokens, err = auth.OpenTokens(config.Auth.TokenFile, logger); err != nil {
			return fmt.Errorf("auth.token_file: %w", err)
		}
	}
	certificates, err := newCertificates(config.Auth, logger)
	if err != nil {
		return err
	}
	listeners, err := listenAll(config, certificates, logger)
	if err != nil {
		return err
	}
	exchange, err := membership.OpenPeers(config.Fleet, store.Instance(), store.Records(), logger, metrics)
	if err != nil {
		closeAll(listeners)
		return err
	}
	defer exchange.Close()
	accelerator := mirror.New(mirror.Options{
		Engine: engine, Registry: images, Dir: filepath.Join(config.StateDir, "blobs"),
		Mode: config.Mirror.Mode, Listen: config.Mirror.Listen, HostsDir: config.Mirror.HostsDir, PullThrough: config.Mirror.PullThrough,
		Connections: config.Mirror.Connections, PerRegistry: config.Mirror.PerRegistry,
		Chunk: config.Mirror.Chunk, Cache: config.Mirror.Cache, MinSize: config.Mirror.MinSize, Rate: config.Mirror.Rate,
		Peers: exchange.Sharing(), Rules: &current, Log: logger, Metrics: metrics,
	})
	gate, claims := new(keeper.Gate), new(claim.Claims)
	kept, err := newImages(imagesOptions{
		config: config, engine: engine, registry: images, accelerator: accelerator, protector: gate, claims: claims, records: store.Records(), log: logger, metrics: metrics,
	})
	if err != nil {
		closeAll(listeners)
		return err
	}
	p, err := jobs.New(engine, jobs.Options{
		Concurrency:         config.Pull.Concurrency,
		PerRegistry:         config.Pull.PerRegistry,
		Policy:              puller.Policy(config.Pull.Policy),
		Retries:             config.Pull.Retries,
		Timeout:             config.Pull.Timeout,
		FirstByteTimeout:    config.Pull.FirstByteTimeout,
		StallTimeout:        config.Pull.StallTimeout,
		ExtractStallTimeout: config.Pull.ExtractStallTimeout,
		KeepFor:             config.Jobs.KeepFor,
		KeepJobs:            config.Jobs.Keep,
		KeepBytes:           config.Jobs.KeepBytes,
		Store:               store,
		Rules:               &current,
		VerifyAccess:        config.Auth.VerifyImageAccess,
		MaxPerCaller:        config.Limits.Jobs,
		MaxBytesPerCaller:   int64(config.Limits.JobBytes),
		Runs:                config.Runs.Concurrency,
		OutputDir:           filepath.Join(config.StateDir, "output"),
		OutputLimit:         config.Runs.Output,
		OutputTotal:         config.Runs.OutputTotal,
		Registry:            images,
		Accelerator:         accelerator,
		Admission:           kept.admission,
		Told:                kept.history.Told,
		Log:                 logger,
		Metrics:             metrics,
		Tracer:              tracer,
	})
	if err != nil {
		closeAll(listeners)
		return err
	}
	kept.history.Begin(p.Events())
	kept.usage.Recall(p)
	keeper, err := newKeeper(keeperOptions{config: config.Keep, service: p, engine: engine, store: store, history: kept.history, claims: claims, log: logger, metrics: metrics})
	if err != nil {
		closeAll(listeners)
		limit, cancel := context.WithTimeout(context.Background(), shutdownLimit)
		defer cancel()
		return errors.Join(err, p.Close(limit))
	}
	gate.Open(keeper)
	joined, err := membership.Open(membership.Options{
		Config: config, Engine: engine, Instance: store.Instance(), Version: o.Version, Records: store.Records(), Log: logger, Metrics: metrics,
		Service: keeper.Jobs(), Registry: images, Sets: keeper, Groups: exchange.Groups(), Certificate: certificates.own(),
	})
	if err != nil {
		closeAll(listeners)
		limit, cancel := context.WithTimeout(context.Background(), shutdownLimit)
		defer cancel()
		return errors.Join(err, p.Close(limit))
	}
	handler := api.New(keeper.Jobs(), api.Options{
		Metrics: metrics, Log: logger, Runs: config.Runs.Enabled, Images: kept.collector, History: kept.history, Keeper: keeper,
		Tokens: tokens, Hosts: hosts(config), Requests: config.Limits.Requests, Fleet: joined.Service(),
	})
	server := connections.NewServer(handler)
	server.ErrorLog = log.New(serverLog{logger}, "", 0)

	group, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		logger.WithFields(logrus.Fields{"address": l.Addr().Network() + "://" + l.Addr().String(), "engine": engine.Host(), "version": o.Version}).Info("listening")
		group.Go(func() error { return ignoreClosed(server.Serve(l)) })
	}
	serving, stopServing := context.WithCancel(context.Background())
	kept.run(ctx, serving, group, p)
	group.Go(func() error { return keeper.Run(ctx) })
	joined.Run(ctx, group)
	logger.WithField("state_dir", config.StateDir).Info("the store is open")
	group.Go(func() error {
		reportEngine(ctx, engine, logger)
		return nil
	})
	if o.Reload != nil {
		r := &reloader{load: o.Load, config: config, logger: logger, rules: &current, images: images}
		group.Go(func() error {
			r.run(ctx, o.Reload)
			return nil
		})
	}
	group.Go(func() error {
		accelerator.Run(serving)
		return nil
	})
	group.Go(func() error {
		exchange.Run(serving, accelerator)
		return nil
	})
	group.Go(func() error {
		defer stopServing()
		<-ctx.Done()
		logger.Info("shutting down")
		limit, cancel := context.WithTimeout(context.Background(), shutdownLimit)
		defer cancel()
		// Jobs end first, so that every reader gets its last event.
		err := p.Close(limit)
		stopServing()
		leaving, cancelLeaving := context.WithTimeout(context.Background(), readersLimit)
		defer cancelLeaving()
		if server.Shutdown(leaving) != nil {
			server.Close() // the readers that are left do not read
		}
		handler.Wait(leaving)
		return err
	})
	return group.Wait()
}

func registryOptions(c configs.Registries, engine *docker.Engine) registry.Options {
	o := registry.Options{
		AllowPrivate: c.AllowPrivate, Docker: c.DockerConfig,
		Insecure: c.Insecure, EngineInsecure: engine.InsecureRegistries, Certificates: c.Certificates,
	}
	o.Logins = logins(c)
	return o
}

func logins(c configs.Registries) (all []login.Login) {
	for _, l := range c.Credentials {
		all = append(all, login.Login(l))
	}
	return all
}

// newMetrics returns a registry with the metrics of Go, of the process, of the build, and
// of the store's file.
func newMetrics(stateDir, version string) *prometheus.Registry {
	metrics := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "towline_build_info", Help: "1, with the version of Towline and of Go.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	store := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "towline_store_size_bytes", Help: "Size of the file that keeps the jobs.",
	}, func() float64 {
		info, err := os.Stat(bolt.File(stateDir))
		if err != nil {
			return 0
		}
		return float64(info.Size())
	})
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, store)
	return metrics
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
