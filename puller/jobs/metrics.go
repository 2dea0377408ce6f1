package jobs

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller"
)

// metrics count jobs.
type metrics struct {
	jobs    *prometheus.CounterVec // that ended, by state, error kind and source
	unended prometheus.Gauge
}

// newMetrics registers the metrics, unless r is nil. It panics where they are
// registered already: one registerer serves one Service.
func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_jobs_total", Help: "Jobs that have ended, by state, kind of error, and where the image came from.",
		}, []string{"state", "error", "source"}),
		unended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towline_jobs_unended", Help: "Jobs that are queued or active.",
		}),
	}
	if r != nil {
		r.MustRegister(m.jobs, m.unended)
	}
	return m
}

func (m metrics) ended(j *puller.Job) {
	var kind, source string
	if j.Error != nil {
		kind = string(j.Error.Kind)
	}
	if j.Result != nil {
		source = string(j.Result.Source)
	}
	m.jobs.WithLabelValues(string(j.State), kind, source).Inc()
	m.unended.Dec()
}
