package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// otlpClient sends spans by OTLP over HTTP (OpenTelemetry Protocol 1.x, "OTLP/HTTP"). The
// client of OpenTelemetry itself brings gRPC with it, which makes the binary 6 MB larger.
type otlpClient struct {
	http     *http.Client
	endpoint string
	header   http.Header
	timeout  time.Duration
}

// mostRetries is how often a batch is sent again that a collector did not take for now.
const mostRetries = 4

// otlpFromEnv returns a client as the standard environment variables say. The error names
// the variable.
func otlpFromEnv() (*otlpClient, error) {
	c := &otlpClient{header: http.Header{"Content-Type": {"application/x-protobuf"}}, timeout: 10 * time.Second}
	name, endpoint := otlpVariable("ENDPOINT")
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%s: %q is no address; write http://HOST:4318", name, endpoint)
	}
	if name == "OTEL_EXPORTER_OTLP_ENDPOINT" { // of all signals
		u = u.JoinPath("v1", "traces")
	}
	c.endpoint = u.String()
	if name, v := otlpVariable("PROTOCOL"); v != "" && v != "http/protobuf" {
		return nil, fmt.Errorf("%s: %q is not served; use http/protobuf", name, v)
	}
	if name, v := otlpVariable("TIMEOUT"); v != "" {
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no number of milliseconds", name, v)
		}
		c.timeout = time.Duration(ms) * time.Millisecond
	}
	if name, v := otlpVariable("HEADERS"); v != "" {
		for pair := range strings.SplitSeq(v, ",") {
			key, value, ok := strings.Cut(pair, "=")
			value, err := url.PathUnescape(strings.TrimSpace(value))
			if !ok || err != nil || strings.TrimSpace(key) == "" {
				return nil, fmt.Errorf("%s: not a list of NAME=VALUE", name)
			}
			c.header.Set(strings.TrimSpace(key), value)
		}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	if name, v := otlpVariable("CERTIFICATE"); v != "" {
		raw, err := os.ReadFile(v)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s: %s has no certificate that can be read", name, v)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	c.http = &http.Client{Transport: transport}
	return c, nil
}

// otlpVariable returns the variable of traces, or else the one of all signals.
func otlpVariable(of string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + of
	if value = os.Getenv(name); value == "" {
		name = "OTEL_EXPORTER_OTLP_" + of
		value = os.Getenv(name)
	}
	return name, value
}

// Start implements otlptrace.Client.
func (c *otlpClient) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *otlpClient) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. It tries again what a collector does not take
// for now, until ctx ends.
func (c *otlpClient) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// It is ExportTraceServiceRequest on the wire, whose package imports gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for try, wait := 0, time.Second; ; try, wait = try+1, 2*wait {
		asked, again, err := c.send(ctx, body)
		if err == nil || !again || try == mostRetries {
			return err
		}
		select {
		case <-time.After(max(wait, asked)):
		case <-ctx.Done():
			return err
		}
	}
}

// send makes one try. again says that another one may succeed, after wait.
func (c *otlpClient) send(ctx context.Context, body []byte) (wait time.Duration, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, false, err
	}
	req.Header = c.header.Clone()
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, true, err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, false, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		wait = time.Duration(seconds) * time.Second
	}
	return wait, again, fmt.Errorf("%s answers %s: %.200q", c.endpoint, resp.Status, said)
}
