package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/stream/pullstream"
)

const traced = "registry.test/good:v1"

// traceable is an Engine of a scripted engine, with its metrics and its log.
type traceable struct {
	*docker.Engine
	scripted *enginetest.Engine
	metrics  *prometheus.Registry
	log      *bytes.Buffer
}

// trace runs a test under synctest. change, if not nil, changes the options.
func trace(t *testing.T, change func(*docker.Options), test func(t *testing.T, e *traceable)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &traceable{scripted: enginetest.New(t), metrics: prometheus.NewRegistry(), log: new(bytes.Buffer)}
		e.scripted.Script(traced, enginetest.Serve(enginetest.NewImage(traced, 1)))
		logger := logrus.New()
		logger.SetOutput(e.log)
		logger.SetLevel(logrus.DebugLevel)
		logger.SetFormatter(&logrus.JSONFormatter{})
		o := docker.Options{Host: "unix:///scripted", Dial: e.scripted.Dial, Log: logger, Metrics: e.metrics}
		if change != nil {
			change(&o)
		}
		var err error
		if e.Engine, err = docker.New(o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		test(t, e)
	})
}

func ignore(pullstream.Message) {}

// values returns the value of each metric by name{label=value,…}. For a histogram that is
// the number of observations.
func (e *traceable) values(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			if h := m.GetHistogram(); h != nil {
				all[name] = float64(h.GetSampleCount())
			} else {
				all[name] = m.GetCounter().GetValue()
			}
		}
	}
	return all
}

func (e *traceable) want(t *testing.T, want map[string]float64) {
	t.Helper()
	got := e.values(t)
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %v, not %v; all are %v", name, got[name], n, got)
		}
	}
}

func TestTraceReusedConnection(t *testing.T) {
	trace(t, nil, func(t *testing.T, e *traceable) {
		for range 100 {
			if err := e.Pull(t.Context(), puller.Pull{Image: traced}, ignore); err != nil {
				t.Fatal(err)
			}
		}
		if c := e.scripted.Counts(); c.Dialed != 1 || c.Pulls != 100 || c.Aborted != 0 {
			t.Errorf("the engine has seen %+v", c)
		}
		e.want(t, map[string]float64{
			"towline_engine_connections_total{reused=false}":      1,
			"towline_engine_connections_total{reused=true}":       100, // with the ping
			"towline_engine_connect_seconds{}":                    1,
			"towline_engine_calls_total{call=pull,outcome=200}":   100,
			"towline_engine_calls_total{call=ping,outcome=200}":   1,
			"towline_engine_first_byte_seconds{call=pull}":        100,
			"towline_engine_first_byte_seconds{call=ping}":        1,
			"towline_engine_calls_total{call=pull,outcome=error}": 0,
		})
	})
}

func TestTraceFailedPulls(t *testing.T) {
	trace(t, nil, func(t *testing.T, e *traceable) {
		e.scripted.Script(traced, func(p *enginetest.Pull) {
			p.Fail("manifest unknown")
			p.Line(`{"status":"and more"}`)
		})
		for range 10 {
			if err := e.Pull(t.Context(), puller.Pull{Image: traced}, ignore); puller.KindOf(err) != puller.ErrNotFound {
				t.Fatal(err)
			}
			if _, err := e.Inspect(t.Context(), traced, ""); puller.KindOf(err) != puller.ErrNotFound {
				t.Fatal(err)
			}
		}
		if c := e.scripted.Counts(); c.Dialed != 1 {
			t.Errorf("the engine has seen %+v", c)
		}
	})
}

// Closing a body before its end closes the connection: the engine ends the pull, and the
// next call dials.
func TestTraceCanceledPulls(t *testing.T) {
	trace(t, nil, func(t *testing.T, e *traceable) {
		e.scripted.Script(traced, func(p *enginetest.Pull) {
			p.Line(`{"status":"Downloading","progressDetail":{"current":1,"total":9},"id":"aaaaaaaaaaaa"}`)
			<-p.Gone()
		})
		for n := 1; n <= 5; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			err := e.Pull(ctx, puller.Pull{Image: traced}, func(pullstream.Message) { cancel() })
			cancel()
			if puller.KindOf(err) != puller.ErrCanceled {
				t.Fatal(err)
			}
			synctest.Wait()
			if c := e.scripted.Counts(); c.Dialed != n || c.Aborted != n || c.Active != 0 || c.Open != 0 {
				t.Errorf("after %d pulls the engine has seen %+v", n, c)
			}
		}
		e.want(t, map[string]float64{"towline_engine_connections_total{reused=false}": 5})
	})
}

// Nothing after the garbage is read.
func TestTraceGarbledPull(t *testing.T) {
	trace(t, nil, func(t *testing.T, e *traceable) {
		e.scripted.Script(traced, func(p *enginetest.Pull) { p.Line("<html>"); <-p.Gone() })
		if err := e.Pull(t.Context(), puller.Pull{Image: traced}, ignore); puller.KindOf(err) != puller.ErrTruncated {
			t.Fatal(err)
		}
		synctest.Wait()
		if c := e.scripted.Counts(); c.Aborted != 1 || c.Active != 0 || c.Open != 0 {
			t.Errorf("the engine has seen %+v", c)
		}
	})
}

func TestTraceConnected(t *testing.T) {
	var slow func(context.Context) (net.Conn, error)
	trace(t, func(o *docker.Options) {
		dial := o.Dial
		slow = func(ctx context.Context) (net.Conn, error) {
			<-time.After(2 * time.Second)
			return dial(ctx)
		}
		o.Dial, o.APIVersion = slow, "1.41" // no ping goes before
	}, func(t *testing.T, e *traceable) {
		for n, want := range []puller.Connection{{DialSeconds: 2}, {Reused: true, IdleSeconds: 0}, {Reused: true, IdleSeconds: 7}} {
			if n == 2 {
				<-time.After(7 * time.Second)
			}
			var got []puller.Connection
			messages := 0
			err := e.Pull(t.Context(), puller.Pull{Image: traced, Connected: func(c puller.Connection) {
				if messages > 0 {
					t.Error("Connected is called after the first message")
				}
				got = append(got, c)
			}}, func(pullstream.Message) { messages++ })
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0] != want {
				t.Errorf("pull %d: connection %+v, want %+v", n, got, want)
			}
		}
	})
}

func TestTraceMetrics(t *testing.T) {
	trace(t, nil, func(t *testing.T, e *traceable) {
		e.scripted.Script(traced, func(p *enginetest.Pull) { p.Refuse(500, "unauthorized") })
		e.Info(t.Context())
		e.Inspect(t.Context(), traced, "")
		e.Pull(t.Context(), puller.Pull{Image: traced}, ignore)
		e.scripted.Kill()
		synctest.Wait()
		e.Inspect(t.Context(), traced, "")
		e.want(t, map[string]float64{
			"towline_engine_calls_total{call=version,outcome=200}": 1,
			"towline_engine_calls_total{call=info,outcome=200}":    1,
			"towline_engine_calls_total{call=inspect,outcome=404}": 1,
			"towline_engine_calls_total{call=pull,outcome=500}":    1,
			"towline_engine_first_byte_seconds{call=inspect}":      1,
		})
		failed := 0.0
		for name, n := range e.values(t) {
			if strings.Contains(name, "outcome=error") {
				failed += n
			}
			if strings.Contains(name, "good") || strings.Contains(name, "registry") {
				t.Errorf("a label has the image in it: %s", name)
			}
		}
		if failed == 0 {
			t.Error("calls that got no answer are not counted")
		}
	})
}

func TestTraceLog(t *testing.T) {
	trace(t, nil, func(t *testing.T, e *traceable) {
		c := credentials(t, "ada", "hunter2")
		e.Info(t.Context())
		e.Pull(t.Context(), puller.Pull{Image: traced, Credentials: c}, ignore)
		e.Inspect(t.Context(), traced, "linux/amd64")
		if text := e.log.String(); strings.Contains(text, "hunter2") || strings.Contains(text, c.Header()) {
			t.Errorf("the log has the secret in it:\n%s", text)
		}
		calls := 0.0
		for name, n := range e.values(t) {
			if strings.HasPrefix(name, "towline_engine_calls_total") {
				calls += n
			}
		}
		lines := strings.Split(strings.TrimSpace(e.log.String()), "\n")
		if float64(len(lines)) != calls || calls < 5 {
			t.Errorf("there are %d lines for %v calls", len(lines), calls)
		}
		for _, line := range lines {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"call", "outcome", "reused", "idle", "dial", "tls", "first_byte"} {
				if _, ok := fields[field]; !ok {
					t.Errorf("a line lacks %s: %s", field, line)
				}
			}
			if fields["level"] != "debug" {
				t.Errorf("a line is not for debugging: %s", line)
			}
		}
	})
}

func TestTraceMetricsRegisteredOnce(t *testing.T) {
	metrics := prometheus.NewRegistry()
	for n := range 2 {
		e, err := docker.New(docker.Options{Host: "unix:///nonexistent", Metrics: metrics})
		if (err != nil) != (n > 0) {
			t.Errorf("engine %d on one registry: %v", n, err)
		}
		if err == nil {
			e.Close()
		}
	}
}
