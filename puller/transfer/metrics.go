package transfer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/queue"
)

// metrics count what transfers do.
type metrics struct {
	running  prometheus.Gauge         // transfers with a slot
	attempts *prometheus.CounterVec   // by the kind of error they ended with, "" for none
	retries  *prometheus.CounterVec   // by the kind of error before them
	joins    *prometheus.CounterVec   // of jobs, by whether the transfer was new
	bytes    prometheus.Counter       // downloaded by transfers that succeeded
	origins  *prometheus.CounterVec   // the same, by where they came from
	phases   *prometheus.HistogramVec // seconds
}

// Where bytes come from.
const (
	originEngine   = "engine" // which fetches them itself
	originRegistry = "registry"
	originCache    = "cache"
	originPeer     = "peer"
)

// newMetrics registers the metrics, unless r is nil. Every series is there from the
// start. It panics where they are registered already: one registerer serves one daemon.
func newMetrics(r prometheus.Registerer, q *queue.Queue) metrics {
	m := metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towline_transfers_running", Help: "Transfers that have a slot.",
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_attempts_total", Help: "Attempts to transfer an image, by the kind of error they ended with.",
		}, []string{"error"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_retries_total", Help: "Attempts that follow another one, by the kind of error of that one.",
		}, []string{"error"}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_transfer_jobs_total", Help: "Jobs that needed a transfer, by whether they began it (new) or shared one (shared).",
		}, []string{"transfer"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "towline_downloaded_bytes_total", Help: "Bytes of layers downloaded by transfers that succeeded.",
		}),
		origins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_image_bytes_total", Help: "Bytes of the images that transfers brought, by where Towline had them from, or engine where the engine fetched them itself.",
		}, []string{"origin"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towline_pull_phase_seconds", Help: "Time that attempts spent in a phase.",
			Buckets: []float64{.01, .1, .5, 1, 5, 15, 60, 300, 1800},
		}, []string{"phase"}),
	}
	m.attempts.WithLabelValues("")
	for _, kind := range puller.ErrorKinds() {
		m.attempts.WithLabelValues(string(kind))
		if kind.Retryable() {
			m.retries.WithLabelValues(string(kind))
		}
	}
	for _, origin := range []string{originEngine, originRegistry, originCache, originPeer} {
		m.origins.WithLabelValues(origin)
	}
	for _, phase := range []puller.Phase{puller.PhaseResolving, puller.PhasePulling, puller.PhaseVerifying} {
		m.phases.WithLabelValues(string(phase))
	}
	for _, transfer := range []string{"new", "shared"} {
		m.joins.WithLabelValues(transfer)
	}
	if r != nil {
		r.MustRegister(m.running, m.attempts, m.retries, m.joins, m.bytes, m.origins, m.phases, queueCollector{q})
	}
	return m
}

func (m metrics) joined(fresh bool) {
	if fresh {
		m.joins.WithLabelValues("new").Inc()
		return
	}
	m.joins.WithLabelValues("shared").Inc()
}

// attempt counts an attempt that has ended. timings are what it has spent, nil if it did
// not ask the engine to pull.
func (m metrics) attempt(result puller.Result, err error, timings *puller.Timings) {
	m.attempts.WithLabelValues(string(puller.KindOf(err))).Inc()
	if timings != nil {
		for phase, seconds := range map[puller.Phase]float64{
			puller.PhaseResolving: timings.FirstByte, puller.PhasePulling: timings.Stream, puller.PhaseVerifying: timings.Verify,
		} {
			if seconds > 0 {
				m.phases.WithLabelValues(string(phase)).Observe(seconds)
			}
		}
	}
	if err != nil {
		return
	}
	m.bytes.Add(float64(result.Downloaded))
	how := result.Accelerated
	if how == nil || how.Way == puller.WayNone {
		m.origins.WithLabelValues(originEngine).Add(float64(result.Downloaded))
		return
	}
	m.origins.WithLabelValues(originRegistry).Add(float64(how.FromRegistry))
	m.origins.WithLabelValues(originCache).Add(float64(how.FromCache))
	m.origins.WithLabelValues(originPeer).Add(float64(how.FromPeers))
}

// queueCollector collects what the queue has.
type queueCollector struct{ queue *queue.Queue }

var (
	slotsDesc     = prometheus.NewDesc("towline_transfer_slots", "Transfers that may fetch at a time.", nil, nil)
	waitingDesc   = prometheus.NewDesc("towline_transfers_waiting", "Transfers that wait for a slot.", nil, nil)
	coolingDesc   = prometheus.NewDesc("towline_cooldowns_active", "Cool-downs of registries that go on now.", nil, nil)
	coolDownsDesc = prometheus.NewDesc("towline_cooldowns_total", "Cool-downs of registries that have begun.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{slotsDesc, waitingDesc, coolingDesc, coolDownsDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c queueCollector) Collect(out chan<- prometheus.Metric) {
	s := c.queue.Stats()
	out <- prometheus.MustNewConstMetric(slotsDesc, prometheus.GaugeValue, float64(s.Slots))
	out <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(s.Waiting))
	out <- prometheus.MustNewConstMetric(coolingDesc, prometheus.GaugeValue, float64(s.Cooling))
	out <- prometheus.MustNewConstMetric(coolDownsDesc, prometheus.CounterValue, float64(s.CoolDowns))
}
