package peers

import "github.com/prometheus/client_golang/prometheus"

// metrics count what hosts give each other.
type metrics struct {
	given, taken, fallbacks, manifests prometheus.Counter
	refused, bad                       *prometheus.CounterVec
}

// newMetrics registers the metrics, unless there is nowhere to. It panics where they are
// registered already: one registerer serves one daemon.
func newMetrics(r prometheus.Registerer) *metrics {
	options := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "towline_fleet_peer_" + name, Help: help}
	}
	m := &metrics{
		given:     prometheus.NewCounter(options("given_bytes_total", "Bytes of blobs that this host has sent to other hosts.")),
		taken:     prometheus.NewCounter(options("taken_bytes_total", "Bytes of blobs that this host has got from other hosts.")),
		fallbacks: prometheus.NewCounter(options("fallbacks_total", "Chunks and manifests that this host asked the registry for, though another host was to give them.")),
		manifests: prometheus.NewCounter(options("registry_manifests_total", "Manifests of shared images that this host asked the registry for.")),
		refused:   prometheus.NewCounterVec(options("refusals_total", "Requests of other hosts that were refused."), []string{"reason"}),
		bad:       prometheus.NewCounterVec(options("bad_chunks_total", "Chunks and manifests with wrong bytes, by the host that gave them."), []string{"peer"}),
	}
	if r != nil {
		r.MustRegister(m.given, m.taken, m.fallbacks, m.manifests, m.refused, m.bad)
	}
	return m
}
