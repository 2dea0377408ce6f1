package daemon

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// exportLimit is how long the last spans may take at the end of the daemon.
const exportLimit = 3 * time.Second

// openTracing returns a tracer whose spans are sent by OTLP over HTTP, if the standard
// environment variables of OpenTelemetry say where to. Otherwise it is nil, and costs
// nothing. close sends the last spans.
func openTracing(ctx context.Context, version string, log logrus.FieldLogger) (_ trace.Tracer, close func(), err error) {
	if !exportsTraces() {
		return nil, func() {}, nil
	}
	client, err := otlpFromEnv()
	if err != nil {
		return nil, nil, err
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	// The environment has priority: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "towline"), attribute.String("service.version", version)),
		resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		log.WithError(err).Warn("not all attributes of traces are known")
	}
	// A collector that is away is told once in a while, not for each batch.
	told := time.Time{}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if time.Since(told) > time.Minute {
			told = time.Now()
			log.WithError(err).Warn("traces can't be exported")
		}
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	log.Info("traces are exported by OTLP")
	return provider.Tracer("towline"), func() {
		limit, cancel := context.WithTimeout(context.Background(), exportLimit)
		defer cancel()
		if err := provider.Shutdown(limit); err != nil {
			log.WithError(err).Warn("the last traces could not be exported")
		}
	}, nil
}

// exportsTraces reports whether the environment names a collector, and does not turn
// traces off.
func exportsTraces() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}
