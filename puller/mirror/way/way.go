// Package way finds out how an engine gets what Towline fetches for it: it has the engine pull an
// image of no size from here.
package way

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/mirror/alias"
	"github.com/towline/towline/puller/mirror/hosts"
)

const (
	// trialLimit is how long a trial may take.
	trialLimit = 20 * time.Second
	// trialTries is how many images an engine is given in a trial while others remove them.
	trialTries = 5
	// trialAgain is how long a trial that failed is believed. One that succeeded is
	// believed until a pull shows otherwise, or another engine answers.
	trialAgain = 10 * time.Minute
	// checkAgain is how long the engine is not asked again whether it is the same: some
	// engines take a tenth of a second to answer.
	checkAgain = 30 * time.Second
)

// Options are what Ways are made with.
type Options struct {
	Engine engines.Engine
	// Mode is "auto", or one of the ways.
	Mode string
	// HostsDir is where Towline may write _default/hosts.toml; "" for nowhere.
	HostsDir string
	Names    *alias.Names
	// Endpoint returns where the engine reaches Towline, or why it does not.
	Endpoint func() (address, fault string)
	// Serve serves a trial's image under a name until end is called.
	Serve func(name string, t *Trial) (end func())
	Log   logrus.FieldLogger
}

// Ways remember which way works with the engine. Their methods may be called from anywhere.
type Ways struct {
	o     Options
	trial sync.Mutex // held while the engine is tried

	mu     sync.Mutex
	engine puller.EngineInfo // that was tried
	way    puller.Way        // "" before the first trial
	reason string
	tried  time.Time
	seen   time.Time // when the engine has last said that it is this one
}

// New returns Ways that know nothing of the engine.
func New(o Options) *Ways { return &Ways{o: o} }

// Last returns what is known without a trial, and why it is so.
func (w *Ways) Last() (puller.Way, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.way == "" {
		return puller.WayNone, "the engine was not tried yet"
	}
	return w.way, w.reason
}

// known returns the way of an engine, if it is known.
func (w *Ways) known(engine puller.EngineInfo) (way puller.Way, reason string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	same := w.engine.Name == engine.Name && w.engine.Version == engine.Version && w.engine.ImageStore == engine.ImageStore && w.engine.OwnRegistries == engine.OwnRegistries
	ok = w.way != "" && same && (w.way != puller.WayNone || time.Since(w.tried) < trialAgain)
	if ok {
		w.seen = time.Now()
	}
	return w.way, w.reason, ok
}

// recent returns the way of the engine that was there a short time ago, if it has one.
func (w *Ways) recent() (engine puller.EngineInfo, way puller.Way, reason string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ok = w.way != "" && w.way != puller.WayNone && time.Since(w.seen) < checkAgain
	return w.engine, w.way, w.reason, ok
}

func (w *Ways) set(engine puller.EngineInfo, way puller.Way, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.engine, w.way, w.reason, w.tried, w.seen = engine, way, reason, time.Now(), time.Now()
}

// Doubt has the engine tried again before the next pull.
func (w *Ways) Doubt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.way = ""
}

// Find returns how the engine gets what Towline fetches, and why. It tries an engine
// that it does not know: callers wait for that.
func (w *Ways) Find(ctx context.Context) (puller.EngineInfo, puller.Way, string) {
	if engine, way, reason, ok := w.recent(); ok {
		return engine, way, reason
	}
	engine, err := w.o.Engine.Info(ctx)
	if err != nil {
		return engine, puller.WayNone, "the engine does not answer"
	}
	if way, reason, ok := w.known(engine); ok {
		return engine, way, reason
	}
	w.trial.Lock()
	defer w.trial.Unlock()
	if way, reason, ok := w.known(engine); ok {
		return engine, way, reason
	}
	way, reason := w.try(ctx, engine)
	if ctx.Err() != nil {
		return engine, puller.WayNone, "the trial of the engine was not finished"
	}
	w.set(engine, way, reason)
	w.o.Log.WithField("way", way).Info("accelerator: " + reason)
	return engine, way, reason
}

// try finds out by pulls of a tiny image which way works.
func (w *Ways) try(ctx context.Context, engine puller.EngineInfo) (puller.Way, string) {
	address, fault := w.o.Endpoint()
	if fault != "" {
		return puller.WayNone, fault
	}
	mode := puller.Way(w.o.Mode)
	refused := ""
	if w.o.HostsDir != "" && mode != puller.WayAlias {
		switch {
		case engine.ImageStore != puller.StoreContainerd:
			refused = "the engine reads no hosts.toml: it has no containerd image store"
		case engine.OwnRegistries != "":
			// Pulls that are not Towline's may need them.
			refused = "as a mirror: the engine would take no notice of its " + engine.OwnRegistries
			if _, err := hosts.Remove(w.o.HostsDir); err != nil {
				w.o.Log.WithError(err).Warn("a hosts.toml could not be removed")
			}
		default:
			err := hosts.Write(w.o.HostsDir, address)
			if err == nil {
				err = w.tryMirror(ctx, engine)
			}
			if err == nil {
				return puller.WayMirror, "the engine asks " + address + " as a mirror of every registry"
			}
			refused = "as a mirror: " + puller.Inner(err).Error()
		}
		if mode == puller.WayMirror {
			return puller.WayNone, refused
		}
	}
	if err := w.tryAlias(ctx, engine, address); err != nil {
		if refused != "" {
			refused += "; "
		}
		return puller.WayNone, refused + "the engine can't pull from " + address + ": " + puller.Inner(err).Error()
	}
	reason := "the engine pulls from " + address
	if refused != "" {
		reason += " (" + refused + ")"
	}
	return puller.WayAlias, reason
}
