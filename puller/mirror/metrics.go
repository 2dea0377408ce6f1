package mirror

import "github.com/prometheus/client_golang/prometheus"

// metrics count what the accelerator does.
type metrics struct {
	fromRegistry, fallbacks, lookups, waited prometheus.Counter
}

// newMetrics registers the metrics, unless there is nowhere to. It panics where they
// are registered already: one registerer serves one daemon.
func newMetrics(m *Mirror) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "towline_accelerator_" + name, Help: help})
	}
	counted := metrics{
		fromRegistry: counter("registry_bytes_total", "Bytes of blobs that were fetched from registries."),
		fallbacks:    counter("fallbacks_total", "Accelerated pulls that failed, so that the engine pulled by itself."),
		lookups:      counter("engine_lookups_total", "Pulls of images' own names by the engine after the alias way: each asks the registry for a manifest."),
		waited:       counter("engine_wait_seconds_total", "Time that engines waited for bytes of blobs, summed over their connections."),
	}
	if m.o.Metrics == nil {
		return counted
	}
	value := func(name, help string, of func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "towline_accelerator_" + name, Help: help}, of)
	}
	m.o.Metrics.MustRegister(counted.fromRegistry, counted.fallbacks, counted.lookups, counted.waited,
		value("connections", "Connections to registries that fetch blobs.", func() float64 { return float64(m.fetcher.Stats().Connections) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "towline_accelerator_chunk_retries_total", Help: "Chunks that were asked for again."},
			func() float64 { return float64(m.fetcher.Stats().Retries) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "towline_accelerator_chunk_races_total", Help: "Chunks of which a free connection took over a part from a slow one."},
			func() float64 { return float64(m.fetcher.Stats().Races) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "towline_accelerator_cache_hits_total", Help: "Blobs that were wanted and were in the cache whole."},
			func() float64 { return float64(m.store.Stats().Hits) }),
		value("cache_bytes", "Bytes of blobs in the cache.", func() float64 { return float64(m.store.Stats().Bytes) }),
	)
	return counted
}
