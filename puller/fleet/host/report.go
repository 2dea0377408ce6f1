package host

import (
	"context"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller/fleet"
)

// report tells NATS how the sets of this host stand, while it is with its fleet.
func (h *Host) report(ctx context.Context, js jetstream.JetStream) error {
	fault := ""
	ticks := time.NewTicker(h.o.Every / 5)
	defer ticks.Stop()
	for {
		for name, r := range h.unsaid() {
			err := h.tell(ctx, js, name, r)
			if err == nil {
				fault = ""
				continue
			}
			if text := err.Error(); ctx.Err() == nil && text != fault {
				fault = text
				h.o.Log.WithField("set", name).WithError(err).Warn("how a set stands could not be reported to the fleet; it is tried again")
			}
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
	}
}

// unsaid returns the reports that NATS does not have yet.
func (h *Host) unsaid() map[string]fleet.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all map[string]fleet.Report
	for name, l := range h.sets {
		r := l.report
		if l.refused != nil {
			r = *l.refused
		}
		if r.State == "" || l.said != nil && reflect.DeepEqual(*l.said, r) {
			continue
		}
		if !r.State.Ended() && time.Since(l.saidAt) < h.o.Every {
			continue
		}
		if all == nil {
			all = make(map[string]fleet.Report)
		}
		all[name] = r
	}
	return all
}

func (h *Host) tell(ctx context.Context, js jetstream.JetStream, name string, r fleet.Report) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	m := nats.NewMsg(fleet.Key(h.names.Reports(), fleet.ReportKey(h.o.Host, name)))
	m.Data = fleet.Encode(r)
	if _, err := js.PublishMsg(ctx, m); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.sets[name]; l != nil {
		l.said, l.saidAt = &r, time.Now()
	}
	return nil
}

// forgetSaid has all be said again.
func (h *Host) forgetSaid() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.sets {
		l.said, l.saidAt = nil, time.Time{}
	}
}

// collector has the metrics of a host.
type collector struct{ h *Host }

var (
	setMetric = prometheus.NewDesc("towline_fleet_sets", "Sets that the fleet has for this host, by state.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	out <- setMetric
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	counts := make(map[fleet.State]int)
	for _, l := range c.h.sets {
		switch {
		case l.refused != nil:
			counts[fleet.StateRefused]++
		case l.report.State == "":
			counts[fleet.StateWaiting]++
		default:
			counts[l.report.State]++
		}
	}
	for _, state := range fleet.States {
		if state != fleet.StateAway {
			out <- prometheus.MustNewConstMetric(setMetric, prometheus.GaugeValue, float64(counts[state]), string(state))
		}
	}
}

// Sets returns how many sets the fleet has for this host.
func (h *Host) Sets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sets)
}
