package jobs

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller"
)

// metrics count jobs.
type metrics struct {
	jobs     *prometheus.CounterVec   // that ended, by kind, state, error kind and source
	duration *prometheus.HistogramVec // seconds, by kind and state
	waited   *prometheus.HistogramVec // seconds, by kind
	unended  prometheus.Gauge
	saving   prometheus.Histogram // seconds
}

var (
	kinds   = []puller.JobKind{puller.JobPull, puller.JobRun, puller.JobPrewarm}
	sources = []puller.Source{puller.SourcePulled, puller.SourceUpToDate, puller.SourcePresent}
)

// newMetrics returns the metrics of jobs. Every series is there from the start.
func newMetrics() metrics {
	m := metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_jobs_total", Help: "Jobs that have ended, by kind, state, kind of error, and where the image came from.",
		}, []string{"kind", "state", "error", "source"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towline_job_duration_seconds", Help: "Time from the submission of a job to its end.",
			Buckets: []float64{.1, .5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600},
		}, []string{"kind", "state"}),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towline_job_queue_seconds", Help: "Time that a job was queued before it became active.",
			Buckets: []float64{.01, .1, 1, 5, 15, 60, 300, 900, 3600},
		}, []string{"kind"}),
		unended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towline_jobs_unended", Help: "Jobs that are queued or active.",
		}),
		saving: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "towline_store_save_seconds", Help: "Time until jobs that were saved together were on disk.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5},
		}),
	}
	for _, kind := range kinds {
		m.waited.WithLabelValues(string(kind))
		for _, state := range []puller.State{puller.StateSucceeded, puller.StateFailed, puller.StateCanceled} {
			m.duration.WithLabelValues(string(kind), string(state))
		}
		for _, source := range sources {
			if kind != puller.JobPrewarm {
				m.jobs.WithLabelValues(string(kind), string(puller.StateSucceeded), "", string(source))
			}
		}
		for _, failure := range puller.ErrorKinds() {
			if failure != puller.ErrCanceled {
				m.jobs.WithLabelValues(string(kind), string(puller.StateFailed), string(failure), "")
			}
		}
		m.jobs.WithLabelValues(string(kind), string(puller.StateCanceled), string(puller.ErrCanceled), "")
	}
	m.jobs.WithLabelValues(string(puller.JobPrewarm), string(puller.StateSucceeded), "", "")
	return m
}

// register registers the metrics of a Service. It panics where they are registered
// already: one registerer serves one Service.
func (m metrics) register(r prometheus.Registerer, s *Service) {
	r.MustRegister(m.jobs, m.duration, m.waited, m.unended, m.saving, present{s})
}

func (m metrics) ended(j *puller.Job) {
	var kind, source string
	if j.Error != nil {
		kind = string(j.Error.Kind)
	} else if j.Result != nil {
		source = string(j.Result.Source)
	}
	m.jobs.WithLabelValues(string(j.Kind), string(j.State), kind, source).Inc()
	m.duration.WithLabelValues(string(j.Kind), string(j.State)).Observe(max(0, j.FinishedAt.Sub(j.CreatedAt).Seconds()))
	if !j.StartedAt.IsZero() {
		m.waited.WithLabelValues(string(j.Kind)).Observe(max(0, j.StartedAt.Sub(j.CreatedAt).Seconds()))
	}
	m.unended.Dec()
}

// present collects what is found out when it is asked for.
type present struct{ *Service }

var (
	queuedDesc = prometheus.NewDesc("towline_jobs_queued", "Jobs that are queued, by kind.", []string{"kind"}, nil)
	activeDesc = prometheus.NewDesc("towline_jobs_active", "Jobs that are active, by kind.", []string{"kind"}, nil)
	engineDesc = prometheus.NewDesc("towline_engine_up", "Whether the engine answers: 1 or 0.", nil, nil)
	storeDesc  = prometheus.NewDesc("towline_store_up", "Whether jobs can be saved: 1 or 0.", nil, nil)
)

// askUp is how long the engine may take to answer when metrics are collected.
const askUp = 2 * time.Second

// Describe implements prometheus.Collector.
func (p present) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queuedDesc, activeDesc, engineDesc, storeDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (p present) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	up := func(err error) float64 {
		if err != nil {
			return 0
		}
		return 1
	}
	count := p.table.Tally()
	for _, kind := range kinds {
		gauge(queuedDesc, float64(count[kind][puller.StateQueued]), string(kind))
		gauge(activeDesc, float64(count[kind][puller.StateActive]), string(kind))
	}
	ctx, cancel := context.WithTimeout(p.ctx, askUp)
	defer cancel()
	_, err := p.engine.Info(ctx)
	gauge(engineDesc, up(err))
	gauge(storeDesc, up(p.writer.failure()))
}
