// Package autoexport stands for the one of that name, of which the lab's registry has no
// use: it sends no traces. The real one brings gRPC and each exporter of OpenTelemetry,
// 170 packages that each first build would compile.
package autoexport

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/sdk/trace"
)

// NewSpanExporter returns an error.
func NewSpanExporter(context.Context) (trace.SpanExporter, error) {
	return nil, errors.New("autoexport: the lab's registry sends no traces")
}
