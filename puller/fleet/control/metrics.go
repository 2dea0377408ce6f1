package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller/fleet"
)

// collector has the metrics of a controller.
type collector struct{ state *state }

var (
	hostsMetric   = prometheus.NewDesc("towline_fleet_hosts", "Hosts of the fleet that this controller knows, by whether they are live.", []string{"live"}, nil)
	membersMetric = prometheus.NewDesc("towline_fleet_members", "Members of sets of the fleet, by set and state of the present generation.", []string{"set", "state"}, nil)
	lagMetric     = prometheus.NewDesc("towline_fleet_lag_members", "Members of sets of the fleet that have not proven the present generation.", []string{"set"}, nil)
	leadMetric    = prometheus.NewDesc("towline_fleet_leading", "Whether this controller of the fleet acts.", nil, nil)
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	out <- hostsMetric
	out <- membersMetric
	out <- lagMetric
	out <- leadMetric
}

// Collect implements prometheus.Collector.
func (m collector) Collect(out chan<- prometheus.Metric) {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	leading := 0.0
	if m.state.leading {
		leading = 1
	}
	out <- prometheus.MustNewConstMetric(leadMetric, prometheus.GaugeValue, leading)
	live := m.state.known.Live()
	out <- prometheus.MustNewConstMetric(hostsMetric, prometheus.GaugeValue, float64(live), "true")
	out <- prometheus.MustNewConstMetric(hostsMetric, prometheus.GaugeValue, float64(len(m.state.known.Hosts)-live), "false")
	for name, s := range m.state.known.Sets {
		v := m.state.known.View(name, s, false)
		lag := 0
		for _, state := range fleet.States {
			out <- prometheus.MustNewConstMetric(membersMetric, prometheus.GaugeValue, float64(v.Counts[state]), name, string(state))
			if state != fleet.StateProven {
				lag += v.Counts[state]
			}
		}
		out <- prometheus.MustNewConstMetric(lagMetric, prometheus.GaugeValue, float64(lag), name)
	}
}
