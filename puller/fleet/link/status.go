package link

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller/fleet"
)

// status is how this host stands to its fleet.
type status struct {
	log logrus.FieldLogger
	up  prometheus.Gauge

	mu      sync.Mutex // guards what follows
	link    fleet.Link
	changed chan struct{} // closed when link changes
}

func newStatus(o Options, log logrus.FieldLogger) *status {
	return &status{
		log: log, changed: make(chan struct{}),
		link: fleet.Link{Fleet: o.Fleet, Host: o.Host, State: fleet.LinkAway, Reason: "it connects", Since: time.Now().UTC()},
		up:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "towline_fleet_up", Help: "1 while this host is in its fleet, 0 while it is alone."}),
	}
}

// get returns the status, and a channel that is closed when it changes.
func (s *status) get() (fleet.Link, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link, s.changed
}

// set changes the state.
func (s *status) set(state fleet.LinkState, reason, server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link.State == state && s.link.Reason == reason && s.link.Server == server {
		return
	}
	if s.link.State != state {
		s.link.Since = time.Now().UTC()
	}
	s.link.State, s.link.Reason, s.link.Server = state, reason, server
	close(s.changed)
	s.changed = make(chan struct{})
	if state == fleet.LinkUp {
		s.up.Set(1)
		s.log.WithField("server", server).Info("this host is in its fleet")
		return
	}
	s.up.Set(0)
	s.log.WithField("reason", reason).Warnf("this host goes on without its fleet: %s", state)
}

// setController says whether the credentials let this daemon change the fleet.
func (s *status) setController(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link.Controller != is {
		s.link.Controller = is
		close(s.changed)
		s.changed = make(chan struct{})
	}
}
