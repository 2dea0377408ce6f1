package transfer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller"
)

// metrics count what transfers do.
type metrics struct {
	running  prometheus.Gauge       // transfers with a slot
	attempts *prometheus.CounterVec // by the kind of error they ended with, "" for none
	bytes    prometheus.Counter     // downloaded by transfers that succeeded
}

// newMetrics registers the metrics, unless r is nil. It panics where they are
// registered already: one registerer serves one daemon.
func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
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
		r.MustRegister(m.running, m.attempts, m.bytes)
	}
	return m
}

func (m metrics) attempt(err error, downloaded int64) {
	m.attempts.WithLabelValues(string(puller.KindOf(err))).Inc()
	if err == nil {
		m.bytes.Add(float64(downloaded))
	}
}
