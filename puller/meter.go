package puller

import "github.com/prometheus/client_golang/prometheus"

// meter counts what the puller does.
type meter struct {
	jobs     *prometheus.CounterVec // that ended, by state, error kind and source
	unended  prometheus.Gauge
	running  prometheus.Gauge       // transfers with a slot
	attempts *prometheus.CounterVec // by the kind of error they ended with, "" for none
	bytes    prometheus.Counter     // downloaded by transfers that succeeded
}

// newMeter registers the metrics, unless r is nil. It panics where they are
// registered already: one registerer serves one puller.
func newMeter(r prometheus.Registerer) *meter {
	m := &meter{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_jobs_total", Help: "Jobs that have ended, by state, kind of error, and where the image came from.",
		}, []string{"state", "error", "source"}),
		unended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towline_jobs_unended", Help: "Jobs that are queued or active.",
		}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towline_transfers_running", Help: "Transfers that have a slot.",
		}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_attempts_total", Help: "Attempts to transfer an image, by the kind of error they ended with.",
		}, []string{"error"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "towline_downloaded_bytes_total", Help: "Bytes of layers downloaded by transfers that succeeded.",
		}),
	}
	if r != nil {
		r.MustRegister(m.jobs, m.unended, m.running, m.attempts, m.bytes)
	}
	return m
}

func (m *meter) accepted() { m.unended.Inc() }

func (m *meter) ended(j *Job) {
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

func (m *meter) attempt(err error, downloaded int64) {
	m.attempts.WithLabelValues(string(KindOf(err))).Inc()
	if err == nil {
		m.bytes.Add(float64(downloaded))
	}
}
