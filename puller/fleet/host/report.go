package host

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller/fleet"
)

// reporter tells NATS how the sets of this host stand.
type reporter struct {
	o     Options
	names fleet.Subjects
	table *table
}

// run tells NATS how the sets of this host stand, while it is with its fleet.
func (r *reporter) run(ctx context.Context, js jetstream.JetStream) error {
	fault := ""
	ticks := time.NewTicker(r.o.Every / 5)
	defer ticks.Stop()
	for {
		for name, report := range r.table.unsaid(r.o.Every) {
			err := r.tell(ctx, js, name, report)
			if err == nil {
				fault = ""
				continue
			}
			if text := err.Error(); ctx.Err() == nil && text != fault {
				fault = text
				r.o.Log.WithField("set", name).WithError(err).Warn("how a set stands could not be reported to the fleet; it is tried again")
			}
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		case <-r.table.news:
		}
	}
}

func (r *reporter) tell(ctx context.Context, js jetstream.JetStream, name string, report fleet.Report) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	m := nats.NewMsg(fleet.Key(r.names.Reports(), fleet.ReportKey(r.o.Host, name)))
	m.Data = fleet.Encode(report)
	if _, err := js.PublishMsg(ctx, m); err != nil {
		return err
	}
	r.table.said(name, report)
	return nil
}

// collector has the metrics of a host.
type collector struct{ table *table }

var setMetric = prometheus.NewDesc("towline_fleet_sets", "Sets that the fleet has for this host, by state.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	out <- setMetric
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	counts := c.table.counts()
	for _, state := range fleet.States {
		if state != fleet.StateAway {
			out <- prometheus.MustNewConstMetric(setMetric, prometheus.GaugeValue, float64(counts[state]), string(state))
		}
	}
}
