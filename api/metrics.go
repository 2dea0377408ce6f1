package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/dockerapi"
	"github.com/towline/towline/api/streams"
)

// metrics count requests.
type metrics struct {
	requests *prometheus.CounterVec   // by route and class of status
	duration *prometheus.HistogramVec // by route
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
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "towline_http_request_duration_seconds", Buckets: []float64{0.01, 0.1, 1, 10},
		Help: "Time until a request was answered, by route. What lasts as long as a job is left out: streams, and requests that wait for their job.",
	}, []string{"route"})
	routes := []string{dockerRoute, noRoute}
	for _, one := range s.table {
		routes = append(routes, one.pattern)
	}
	for _, route := range routes {
		m.duration.WithLabelValues(route)
		for class := 2; class <= 5; class++ {
			m.requests.WithLabelValues(route, classOf(100*class))
		}
	}
	readers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "towline_event_readers", Help: "Streams of events that clients read.",
	}, func() float64 { return float64(s.Streams()) })
	r.MustRegister(m.requests, m.duration, m.inFlight, readers)
	return m
}

// answered counts an answer. took is how long it took, of a stream nothing.
func (m metrics) answered(route string, status int, took time.Duration, stream bool) {
	m.requests.WithLabelValues(route, classOf(status)).Inc()
	if !stream {
		m.duration.WithLabelValues(route).Observe(took.Seconds())
	}
}

// isStream reports whether an answer lasts as long as a job.
func isStream(r *http.Request, route string, a *connections.Answer) bool {
	media, _, _ := strings.Cut(a.Header().Get("Content-Type"), ";")
	return a.Hijacked() || streams.IsFormat(media) || r.URL.Query().Get("wait") == "true" ||
		route == "GET /v1/jobs/{id}/logs" || route == dockerRoute && r.Method == http.MethodPost
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
