package mirror

import (
	"context"
	"sync"
	"time"

	"github.com/towline/towline/puller"
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

// ways remembers which way works with the engine.
type ways struct {
	trial sync.Mutex // held while the engine is tried

	mu     sync.Mutex
	engine puller.EngineInfo // that was tried
	way    puller.Way        // "" before the first trial
	reason string
	tried  time.Time
	seen   time.Time // when the engine has last said that it is this one
}

// last returns what is known without a trial.
func (w *ways) last() (puller.Way, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.way == "" {
		return puller.WayNone, "the engine was not tried yet"
	}
	return w.way, w.reason
}

// known returns the way of an engine, if it is known.
func (w *ways) known(engine puller.EngineInfo) (way puller.Way, reason string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	same := w.engine.Name == engine.Name && w.engine.Version == engine.Version && w.engine.ImageStore == engine.ImageStore
	ok = w.way != "" && same && (w.way != puller.WayNone || time.Since(w.tried) < trialAgain)
	if ok {
		w.seen = time.Now()
	}
	return w.way, w.reason, ok
}

// recent returns the way of the engine that was there a short time ago, if it has one.
func (w *ways) recent() (engine puller.EngineInfo, way puller.Way, reason string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ok = w.way != "" && w.way != puller.WayNone && time.Since(w.seen) < checkAgain
	return w.engine, w.way, w.reason, ok
}

func (w *ways) set(engine puller.EngineInfo, way puller.Way, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.engine, w.way, w.reason, w.tried, w.seen = engine, way, reason, time.Now(), time.Now()
}

// doubt has the engine tried again before the next pull.
func (w *ways) doubt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.way = ""
}

// way returns how the engine gets what Towline fetches, and why. It tries an engine
// that it does not know: callers wait for that.
func (m *Mirror) way(ctx context.Context) (puller.EngineInfo, puller.Way, string) {
	if engine, way, reason, ok := m.ways.recent(); ok {
		return engine, way, reason
	}
	engine, err := m.o.Engine.Info(ctx)
	if err != nil {
		return engine, puller.WayNone, "the engine does not answer"
	}
	if way, reason, ok := m.ways.known(engine); ok {
		return engine, way, reason
	}
	m.ways.trial.Lock()
	defer m.ways.trial.Unlock()
	if way, reason, ok := m.ways.known(engine); ok {
		return engine, way, reason
	}
	way, reason := m.try(ctx, engine)
	if ctx.Err() != nil {
		return engine, puller.WayNone, "the trial of the engine was not finished"
	}
	m.ways.set(engine, way, reason)
	m.o.Log.WithField("way", way).Info("accelerator: " + reason)
	return engine, way, reason
}

// try finds out by pulls of a tiny image which way works.
func (m *Mirror) try(ctx context.Context, engine puller.EngineInfo) (puller.Way, string) {
	address, fault := m.endpoint()
	if fault != "" {
		return puller.WayNone, fault
	}
	mode := puller.Way(m.o.Mode)
	refused := ""
	if m.o.HostsDir != "" && mode != puller.WayAlias {
		switch {
		case engine.ImageStore != puller.StoreContainerd:
			refused = "the engine reads no hosts.toml: it has no containerd image store"
		default:
			err := hosts.Write(m.o.HostsDir, address)
			if err == nil {
				err = m.tryMirror(ctx, engine)
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
	if err := m.tryAlias(ctx, engine, address); err != nil {
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
