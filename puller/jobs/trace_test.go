package jobs_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/storetest"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceParent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// traced is a Service whose spans are kept.
type traced struct {
	*jobs.Service
	t      *testing.T
	engine *enginetest.Engine
	spans  *tracetest.SpanRecorder
	open   func()
}

func withTraces(t *testing.T, test func(d *traced)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &traced{t: t, engine: enginetest.New(t), spans: tracetest.NewSpanRecorder()}
		tracer := sdk.NewTracerProvider(sdk.WithSpanProcessor(d.spans)).Tracer("test")
		log := logrus.New()
		log.SetOutput(io.Discard)
		adapter, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: d.engine.Dial, Tracer: tracer, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		store := storetest.New()
		d.open = func() {
			if d.Service, err = jobs.New(adapter, jobs.Options{
				Concurrency: 4, Policy: puller.PolicyMissing, Retries: 1, Timeout: time.Hour, Store: store, Tracer: tracer, Log: log, OutputDir: t.TempDir(), OutputLimit: 1 << 20,
			}); err != nil {
				t.Fatal(err)
			}
		}
		d.open()
		t.Cleanup(func() {
			d.Close(context.Background())
			adapter.Close()
		})
		test(d)
	})
}

func (d *traced) pull(image, parent string) puller.Job {
	d.t.Helper()
	j, err := d.Pull(puller.PullRequest{Image: image, TraceParent: parent})
	if err != nil {
		d.t.Fatal(err)
	}
	return j
}

func (d *traced) ended(id string) puller.Job {
	d.t.Helper()
	j, err := d.Wait(d.t.Context(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	synctest.Wait()
	return j
}

// named returns the spans of a name that have ended.
func (d *traced) named(name string) (all []sdk.ReadOnlySpan) {
	for _, s := range d.spans.Ended() {
		if s.Name() == name {
			all = append(all, s)
		}
	}
	return all
}

// one returns the only span of a name.
func (d *traced) one(name string) sdk.ReadOnlySpan {
	d.t.Helper()
	all := d.named(name)
	if len(all) != 1 {
		var names []string
		for _, s := range d.spans.Ended() {
			names = append(names, s.Name())
		}
		d.t.Fatalf("there are %d spans %s, among %q", len(all), name, names)
	}
	return all[0]
}

func child(t *testing.T, s sdk.ReadOnlySpan, of trace.SpanContext) {
	t.Helper()
	if s.Parent().SpanID() != of.SpanID() || s.SpanContext().TraceID() != of.TraceID() {
		t.Errorf("the parent of %s is %s in %s, want %s in %s", s.Name(), s.Parent().SpanID(), s.SpanContext().TraceID(), of.SpanID(), of.TraceID())
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	t.Run("pull", func(t *testing.T) {
		withTraces(t, func(d *traced) {
			d.engine.Script("alpine", enginetest.Serve(enginetest.NewImage("alpine", 1)))
			j := d.ended(d.pull("alpine", traceParent).ID)
			job, attempt, call := d.one("job pull"), d.one("attempt"), d.one("engine pull")
			if job.SpanContext().TraceID().String() != traceID || job.Parent().SpanID().String() != "00f067aa0ba902b7" {
				t.Errorf("the job's span is %v, of %v", job.SpanContext(), job.Parent())
			}
			child(t, attempt, job.SpanContext())
			child(t, call, attempt.SpanContext())
			if want := "00-" + traceID + "-" + job.SpanContext().SpanID().String() + "-01"; j.TraceParent != want {
				t.Errorf("the job has the traceparent %q, want %q", j.TraceParent, want)
			}
			for _, s := range []sdk.ReadOnlySpan{job, attempt, call} {
				if s.Status().Code == codes.Error {
					t.Errorf("%s: %+v", s.Name(), s.Status())
				}
			}
			for _, s := range d.named("engine inspect") {
				if s.SpanContext().TraceID().String() != traceID {
					t.Errorf("an inspect is of another trace")
				}
			}
		})
	})
	t.Run("failure", func(t *testing.T) {
		withTraces(t, func(d *traced) {
			d.engine.Script("lost", func(p *enginetest.Pull) { p.Fail("manifest unknown") })
			d.ended(d.pull("lost", "").ID)
			job := d.one("job pull")
			if job.Parent().IsValid() || job.Status().Code != codes.Error || !strings.Contains(job.Status().Description, "manifest unknown") {
				t.Errorf("the span is of %v, with %+v", job.Parent(), job.Status())
			}
			if s := d.one("attempt").Status(); s.Code != codes.Error || s.Description != "not_found" {
				t.Errorf("the attempt's status is %+v", s)
			}
		})
	})
	t.Run("shared", func(t *testing.T) {
		withTraces(t, func(d *traced) {
			gate := make(chan struct{})
			served, serve := false, enginetest.Serve(enginetest.NewImage("alpine", 1))
			d.engine.Script("alpine", func(p *enginetest.Pull) {
				switch {
				case served:
					serve(p)
				case p.Until(gate):
					served = true
					p.Fail("received unexpected HTTP status: 503 Service Unavailable")
				}
			})
			first := d.pull("alpine", traceParent)
			synctest.Wait()
			second := d.pull("alpine", "")
			close(gate)
			d.ended(first.ID)
			d.ended(second.ID)
			all := d.named("attempt")
			if last := all[len(all)-1]; len(last.Links()) != 1 || !strings.Contains(second.TraceParent, last.Links()[0].SpanContext.SpanID().String()) {
				t.Errorf("the last of %d attempts has the links %v, not one to %s", len(all), last.Links(), second.TraceParent)
			}
		})
	})
	t.Run("prewarm", func(t *testing.T) {
		withTraces(t, func(d *traced) {
			d.engine.Script("alpine", enginetest.Serve(enginetest.NewImage("alpine", 1)))
			j, err := d.Prewarm(puller.PrewarmRequest{Images: puller.Images{{Image: "alpine"}}, TraceParent: traceParent})
			if err != nil {
				t.Fatal(err)
			}
			d.ended(j.ID)
			child(t, d.one("job pull"), d.one("job prewarm").SpanContext())
		})
	})
	t.Run("refused", func(t *testing.T) {
		withTraces(t, func(d *traced) {
			r := puller.PullRequest{Image: "alpine", IdempotencyKey: "k"}
			first, err := d.Pull(r)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := d.Pull(r); err != nil || again.TraceParent != first.TraceParent {
				t.Errorf("the same request again is %+v, %v", again, err)
			}
			if s := d.named("job pull")[0].Status(); s.Description != "conflict" {
				t.Errorf("the span of a job that there was is %+v", s)
			}
		})
	})
	t.Run("restart", func(t *testing.T) {
		withTraces(t, func(d *traced) {
			d.engine.Script("alpine", func(p *enginetest.Pull) { p.Until(make(chan struct{})) })
			before := d.pull("alpine", traceParent)
			synctest.Wait()
			d.Close(context.Background())
			d.engine.Script("alpine", enginetest.Serve(enginetest.NewImage("alpine", 1)))
			d.open()
			if after := d.ended(before.ID); after.TraceParent != before.TraceParent {
				t.Errorf("the traceparent was %s, and is %s", before.TraceParent, after.TraceParent)
			}
			child(t, d.one("job pull, resumed"), d.one("job pull").SpanContext())
		})
	})
	t.Run("off", func(t *testing.T) {
		withDaemon(t, func(d *daemon) {
			for _, parent := range []string{"", traceParent} {
				j, err := d.Pull(puller.PullRequest{Image: "alpine", TraceParent: parent})
				if err != nil || j.TraceParent != parent {
					t.Errorf("with %q, the job has %q, %v", parent, j.TraceParent, err)
				}
			}
		})
	})
}
