package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/sockets"
	"github.com/docker/go-connections/tlsconfig"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/trace"
)

// Options say where the engine is. The zero value follows Docker's own rules:
// DOCKER_HOST, DOCKER_CERT_PATH and DOCKER_TLS_VERIFY, else the default socket.
type Options struct {
	Host       string // unix:///…, tcp://…, http(s)://…
	APIVersion string // "" negotiates it
	// Dial, if not nil, connects to the engine.
	Dial func(ctx context.Context) (net.Conn, error)
	// Log gets a line for every call, at debug level. nil is for none.
	Log logrus.FieldLogger
	// Metrics registers the connections' metrics. nil is for none.
	Metrics prometheus.Registerer
	// Tracer gets a span for every call whose context has one. nil is for none.
	Tracer trace.Tracer
}

const (
	// CallLimit is how long the engine may take for a call other than a pull. A frozen
	// engine accepts connections and does not answer.
	CallLimit = 30 * time.Second
	// WorkLimit is how long the engine may take for a call that works on its disks. They
	// may be busy with pulls.
	WorkLimit = 2 * time.Minute
)

// transport returns the host and an HTTP transport for it.
//
// No timeout covers a whole answer: a pull's answer lasts as long as the pull. A
// connection carries one call at a time and returns to the pool when the answer was read
// to its end.
func (o Options) transport() (string, *http.Transport, error) {
	host, from := o.Host, "engine.host"
	if host == "" {
		host, from = os.Getenv(client.EnvOverrideHost), client.EnvOverrideHost
	}
	if host == "" {
		host = client.DefaultDockerHost
	}
	if strings.HasPrefix(host, "ssh://") {
		return "", nil, fmt.Errorf("%s: %q: ssh is not supported; forward the engine's socket with ssh -L and name that", from, host)
	}
	url, err := client.ParseHostURL(host)
	if err == nil && !slices.Contains([]string{"unix", "tcp", "http", "https", "npipe"}, url.Scheme) {
		err = errors.New("unknown scheme")
	}
	if err != nil {
		return "", nil, fmt.Errorf("%s: %q: %w; write it as unix:///var/run/docker.sock or tcp://HOST:PORT", from, host, err)
	}
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     90 * time.Second,
	}
	if err := sockets.ConfigureTransport(t, url.Scheme, url.Host); err != nil {
		return "", nil, fmt.Errorf("%s: %q: %w", from, host, err)
	}
	if o.Dial != nil {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) }
	}
	if dir := os.Getenv(client.EnvOverrideCertPath); dir != "" && url.Scheme != "unix" {
		t.TLSClientConfig, err = tlsconfig.Client(tlsconfig.Options{
			CAFile:             filepath.Join(dir, "ca.pem"),
			CertFile:           filepath.Join(dir, "cert.pem"),
			KeyFile:            filepath.Join(dir, "key.pem"),
			InsecureSkipVerify: os.Getenv(client.EnvTLSVerify) == "",
		})
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", client.EnvOverrideCertPath, err)
		}
	} else if os.Getenv(client.EnvTLSVerify) != "" && url.Scheme == "tcp" {
		return "", nil, errors.New(client.EnvTLSVerify + " is set: set " + client.EnvOverrideCertPath + " too")
	}
	return host, t, nil
}
