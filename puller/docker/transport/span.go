package transport

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
)

// span begins the span of a call, if the call is part of a trace. It is nil for none.
func (t *tracer) span(ctx context.Context, call string) (context.Context, trace.Span) {
	if t.spans == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil
	}
	return t.spans.Start(ctx, "engine "+call, trace.WithSpanKind(trace.SpanKindClient))
}

// endSpan ends the span of a call, with the end of its answer if there is one.
func endSpan(span trace.Span, conn puller.Connection, firstByte time.Duration, resp *http.Response, err error) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.Bool("towline.connection.reused", conn.Reused), attribute.Float64("towline.first_byte", firstByte.Seconds()))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.End()
		return
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if resp.StatusCode >= http.StatusBadRequest {
		span.SetStatus(codes.Error, resp.Status)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		span.End() // its body is a connection
		return
	}
	resp.Body = &spanBody{ReadCloser: resp.Body, end: sync.OnceFunc(func() { span.End() })}
}

// spanBody ends a span with the body of an answer.
type spanBody struct {
	io.ReadCloser
	end func()
}

func (b *spanBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

func (b *spanBody) Close() error {
	b.end()
	return b.ReadCloser.Close()
}
