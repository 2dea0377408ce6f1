package daemon

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector keeps what it is sent, after it has refused some.
type collector struct {
	refuses []int // the statuses of the first answers

	mu      sync.Mutex
	headers []http.Header
	paths   []string
	spans   []string
	service string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers, c.paths = append(c.headers, r.Header.Clone()), append(c.paths, r.URL.Path)
	if len(c.refuses) > 0 {
		w.WriteHeader(c.refuses[0])
		c.refuses = c.refuses[1:]
		return
	}
	var data tracepb.TracesData
	if err := proto.Unmarshal(body, &data); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, r := range data.ResourceSpans {
		for _, a := range r.Resource.Attributes {
			if a.Key == "service.name" {
				c.service = a.Value.GetStringValue()
			}
		}
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				c.spans = append(c.spans, span.Name)
			}
		}
	}
}

// clearOTLP unsets the variables of OpenTelemetry.
func clearOTLP(t *testing.T) {
	t.Helper()
	for _, of := range []string{"ENDPOINT", "PROTOCOL", "TIMEOUT", "HEADERS", "CERTIFICATE"} {
		t.Setenv("OTEL_EXPORTER_OTLP_"+of, "")
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_"+of, "")
	}
	for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
}

// export sends a span with the present environment, and returns what was logged.
func export(t *testing.T) (logged string, exports bool) {
	t.Helper()
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	tracer, end, err := openTracing(t.Context(), "v1", log)
	if err != nil {
		t.Fatal(err)
	}
	if tracer != nil {
		_, span := tracer.Start(context.Background(), "one")
		span.End()
	}
	end()
	return out.String(), tracer != nil
}

func TestExport(t *testing.T) {
	for name, c := range map[string]struct {
		env     map[string]string // $ is the address
		refuses []int
		path    string
		tries   int
		service string
	}{
		"all signals":   {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$"}, path: "/v1/traces", tries: 1, service: "towline"},
		"below a path":  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$/otlp/"}, path: "/otlp/v1/traces", tries: 1, service: "towline"},
		"traces":        {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "$/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://nowhere.test"}, path: "/x", tries: 1, service: "towline"},
		"service name":  {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$", "OTEL_SERVICE_NAME": "pulls"}, path: "/v1/traces", tries: 1, service: "pulls"},
		"another try":   {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$"}, refuses: []int{503}, path: "/v1/traces", tries: 2, service: "towline"},
		"refused":       {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$"}, refuses: []int{400}, path: "/v1/traces", tries: 1},
		"off":           {},
		"disabled":      {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$", "OTEL_SDK_DISABLED": "true"}},
		"other signals": {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "$", "OTEL_TRACES_EXPORTER": "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			clearOTLP(t)
			to := &collector{refuses: c.refuses}
			server := httptest.NewServer(to)
			defer server.Close()
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, tenant = a")
			for name, value := range c.env {
				t.Setenv(name, strings.Replace(value, "$", server.URL, 1))
			}
			logged, exports := export(t)
			if exports != (c.tries > 0) || len(to.paths) != c.tries {
				t.Fatalf("exports: %t, with %d tries\n%s", exports, len(to.paths), logged)
			}
			for i, path := range to.paths {
				h := to.headers[i]
				got := []string{path, h.Get("Content-Type"), h.Get("Authorization"), h.Get("Tenant")}
				if diff := cmp.Diff([]string{c.path, "application/x-protobuf", "Bearer x", "a"}, got); diff != "" {
					t.Errorf("path and headers (-want +got):\n%s", diff)
				}
			}
			if (len(to.spans) == 1) != (c.service != "") || to.service != c.service {
				t.Errorf("the spans are %q of %q\n%s", to.spans, to.service, logged)
			}
			if refused := c.tries > 0 && c.service == ""; refused != strings.Contains(logged, "400 Bad Request") || strings.Contains(logged, "Bearer x") {
				t.Errorf("the log is %s", logged)
			}
		})
	}
}

func TestExportSettings(t *testing.T) {
	for name, env := range map[string][]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":        {"collector:4318", "grpc://x:1", "http://", "::"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"collector"},
		"OTEL_EXPORTER_OTLP_PROTOCOL":        {"grpc", "http/json"},
		"OTEL_EXPORTER_OTLP_TIMEOUT":         {"10s", "-1"},
		"OTEL_EXPORTER_OTLP_HEADERS":         {"x", "=y", "a=%zz"},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":     {"/nowhere.pem"},
	} {
		for _, value := range env {
			clearOTLP(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.test:4318")
			t.Setenv(name, value)
			if _, _, err := openTracing(t.Context(), "v1", logrus.New()); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
}
