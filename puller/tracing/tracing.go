// Package tracing carries the trace that a job is part of: W3C Trace Context,
// https://www.w3.org/TR/trace-context/. A job has its place in the trace as text, which a
// restart keeps.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/towline/towline/puller"
)

const header = "traceparent"

// Context returns a context whose spans are children of a traceparent. It is ctx itself if
// the text is no valid one.
func Context(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: traceparent})
}

// Parent returns the traceparent of a context's span, "" for none. It is of version 00.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[header]
}

// Clean returns a traceparent that a caller has sent, "" if it is not valid: then a trace
// begins anew.
func Clean(traceparent string) string {
	if traceparent == "" {
		return ""
	}
	return Parent(Context(context.Background(), traceparent))
}

// Tracer returns the tracer, or one that records nothing for nil.
func Tracer(t trace.Tracer) trace.Tracer {
	if t == nil {
		return noop.Tracer{}
	}
	return t
}

// describe returns what the span of a job says of the job.
func describe(v *puller.Job) []attribute.KeyValue {
	all := []attribute.KeyValue{attribute.String("towline.job.id", v.ID), attribute.String("towline.job.kind", string(v.Kind))}
	if v.Image != "" {
		all = append(all, attribute.String("container.image.name", v.Image))
	}
	if v.Parent != "" {
		all = append(all, attribute.String("towline.job.parent", v.Parent))
	}
	if v.Result != nil && v.Result.Source != "" {
		all = append(all, attribute.String("towline.source", string(v.Result.Source)), attribute.Int64("towline.downloaded", v.Result.Downloaded))
	}
	return all
}

// End ends a span. The kind of an error is its status: the text of an error may have what
// is secret in it.
func End(span trace.Span, err error) {
	if err != nil {
		kind := string(puller.KindOf(err))
		span.SetStatus(codes.Error, kind)
		span.SetAttributes(attribute.String("error.type", kind))
	}
	span.End()
}

// EndJob ends the span of a job that has ended. What the job tells has no secrets.
func EndJob(span trace.Span, v *puller.Job) {
	if span.IsRecording() {
		span.SetAttributes(append(describe(v), attribute.String("towline.job.state", string(v.State)))...)
		if v.Error != nil {
			span.SetStatus(codes.Error, v.Error.Message)
			span.SetAttributes(attribute.String("error.type", string(v.Error.Kind)))
		}
	}
	span.End()
}
