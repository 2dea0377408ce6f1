package transport

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
)

// tracer measures every call to the engine: whether its connection was new, how long that
// had been idle, and the time for dialing, for TLS and until the answer began.
type tracer struct {
	next  http.RoundTripper
	log   logrus.FieldLogger
	spans trace.Tracer // nil for none

	calls       *prometheus.CounterVec   // by call and outcome
	connections *prometheus.CounterVec   // by whether they were reused
	connect     prometheus.Histogram     // seconds to a new connection, TLS included
	firstByte   *prometheus.HistogramVec // seconds, by call
}

func newTracer(next http.RoundTripper, o Options) (*tracer, error) {
	r := o.Metrics
	t := &tracer{
		next: next, log: o.Log, spans: o.Tracer,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_engine_calls_total", Help: "Calls to the engine, by what was called and how it was answered (a status, or error).",
		}, []string{"call", "outcome"}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_engine_connections_total", Help: "Connections that calls to the engine got, by whether they had been used before.",
		}, []string{"reused"}),
		connect: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "towline_engine_connect_seconds", Help: "Time to a new connection to the engine, TLS included.",
			Buckets: []float64{.0001, .001, .01, .1, 1, 10},
		}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towline_engine_first_byte_seconds", Help: "Time from a call's request until the engine began its answer.",
			Buckets: []float64{.001, .01, .1, 1, 10, 60},
		}, []string{"call"}),
	}
	for _, call := range []string{"pull", "inspect"} {
		t.calls.WithLabelValues(call, "200")
		t.calls.WithLabelValues(call, "error")
		t.firstByte.WithLabelValues(call)
	}
	t.connections.WithLabelValues("true")
	t.connections.WithLabelValues("false")
	if r == nil {
		return t, nil
	}
	for _, c := range []prometheus.Collector{t.calls, t.connections, t.connect, t.firstByte} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// connectionKey is the context key of the function that receives a call's connection. The
// SDK has no other way to pass it to a request.
type connectionKey struct{}

// WithConnected returns a context whose calls tell connected which connection they got,
// before their answers are read.
func WithConnected(ctx context.Context, connected func(puller.Connection)) context.Context {
	return context.WithValue(ctx, connectionKey{}, connected)
}

// RoundTrip implements http.RoundTripper.
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	call := callOf(req)
	measured := callTrace{began: time.Now()}
	ctx, span := t.span(req.Context(), call)
	req = req.WithContext(httptrace.WithClientTrace(ctx, measured.hooks()))
	resp, err := t.next.RoundTrip(req)
	took := time.Since(measured.began)
	conn := measured.connection()
	endSpan(span, conn, took, resp, err)

	outcome := "error"
	if err == nil {
		outcome = strconv.Itoa(resp.StatusCode)
	}
	t.calls.WithLabelValues(call, outcome).Inc()
	if measured.got() {
		t.connections.WithLabelValues(strconv.FormatBool(conn.Reused)).Inc()
		if !conn.Reused {
			t.connect.Observe(conn.DialSeconds + conn.TLSSeconds)
		}
	}
	if err == nil {
		t.firstByte.WithLabelValues(call).Observe(took.Seconds())
		if connected, ok := req.Context().Value(connectionKey{}).(func(puller.Connection)); ok {
			connected(conn)
		}
	}
	t.log.WithFields(logrus.Fields{
		"call": call, "outcome": outcome, "reused": conn.Reused, "idle": conn.IdleSeconds,
		"dial": conn.DialSeconds, "tls": conn.TLSSeconds, "first_byte": took.Seconds(),
	}).Debug("engine call")
	return resp, err
}

// callOf names a call without the variable parts of its path.
func callOf(req *http.Request) string {
	path := req.URL.Path
	if _, after, ok := strings.Cut(path, "/containers/"); ok {
		// json (the list), create, or {id}/start, …; {id} alone is a removal.
		verb := after[strings.LastIndex(after, "/")+1:]
		switch verb {
		case "create", "start", "attach", "wait", "logs", "stop":
			return verb
		case "json":
			return "containers"
		}
		return "remove"
	}
	switch {
	case strings.HasSuffix(path, "/images/create"):
		return "pull"
	case strings.Contains(path, "/images/") && strings.HasSuffix(path, "/json"):
		return "inspect"
	case strings.Contains(path, "/images/") && req.Method == http.MethodDelete:
		return "remove_image"
	case strings.HasSuffix(path, "/events"):
		return "events"
	case strings.HasSuffix(path, "/system/df"):
		return "disk_usage"
	case strings.HasSuffix(path, "/_ping"):
		return "ping"
	case strings.HasSuffix(path, "/version"):
		return "version"
	case strings.HasSuffix(path, "/info"):
		return "info"
	}
	return "other"
}

// callTrace measures the phases of one call. The hooks run on the transport's goroutines,
// also after the call has returned.
type callTrace struct {
	began time.Time

	mu                 sync.Mutex
	gotConn            bool
	reused             bool
	idle               time.Duration
	tlsBegan           time.Time
	connect, handshake time.Duration
}

func (t *callTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.gotConn, t.reused, t.idle = true, info.Reused, info.IdleTime
			if !info.Reused {
				// Options.Dial may not report to the trace, so this is the time to the
				// connection without the handshake.
				t.connect = time.Since(t.began) - t.handshake
			}
		},
		TLSHandshakeStart: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.tlsBegan = time.Now()
		},
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.handshake = time.Since(t.tlsBegan)
		},
	}
}

func (t *callTrace) got() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gotConn
}

func (t *callTrace) connection() puller.Connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	return puller.Connection{Reused: t.reused, IdleSeconds: t.idle.Seconds(), DialSeconds: t.connect.Seconds(), TLSSeconds: t.handshake.Seconds()}
}
