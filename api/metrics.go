package api

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/api/dockerapi"
)

// metrics count requests.
type metrics struct {
	requests *prometheus.CounterVec // by route and class of status
	inFlight prometheus.Gauge
}

// What stands in the place of a route.
const (
	dockerRoute = "docker" // all of the Docker Engine API
	noRoute     = "none"
)

// newMetrics registers the metrics of a server. Every series is there from the start. It
// panics where they are registered already.
func newMetrics(s *Server, r prometheus.Registerer) metrics {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_http_requests_total", Help: "Requests that were answered, by route and class of the status. Streams count when they begin.",
		}, []string{"route", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towline_http_requests_in_flight", Help: "Requests that are being answered, without streams of events.",
		}),
	}
	routes := []string{dockerRoute, noRoute}
	for _, one := range s.table {
		routes = append(routes, one.pattern)
	}
	for _, route := range routes {
		for class := 2; class <= 5; class++ {
			m.requests.WithLabelValues(route, classOf(100*class))
		}
	}
	readers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "towline_event_readers", Help: "Streams of events that clients read.",
	}, func() float64 { return float64(s.Streams()) })
	r.MustRegister(m.requests, m.inFlight, readers)
	return m
}

// answered counts an answer.
func (m metrics) answered(route string, status int) {
	m.requests.WithLabelValues(route, classOf(status)).Inc()
}

func classOf(status int) string { return strconv.Itoa(status/100) + "xx" }

// routeOf returns the route of a request, as a label.
func (s *Server) routeOf(r *http.Request) string {
	if _, _, dockers := dockerapi.SplitPath(r.URL.Path); dockers {
		return dockerRoute
	}
	if _, pattern := s.mux.Handler(r); pattern != "" {
		return pattern
	}
	return noRoute
}
