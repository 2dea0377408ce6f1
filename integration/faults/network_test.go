package faults_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// quiet is a log that nobody reads.
var quiet = log.New(io.Discard, "", 0)

// proxy puts toxiproxy before the rig's registry, and names an image by it.
func (r *rig) proxy(image pushed) (*toxiproxy.Proxy, pushed) {
	r.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(server, r.Name(), "127.0.0.1:0", r.registry.Addr())
	if err := p.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(p.Stop)
	image.ref = p.Listen + "/" + image.repo + ":v1"
	r.Cleanup(func() {
		ctx, cancel := within()
		defer cancel()
		r.engine.RemoveImage(ctx, image.ref)
	})
	return p, image
}

// toxic puts a fault on the way from the registry to the engine.
func (r *rig) toxic(p *toxiproxy.Proxy, kind, attributes string) (remove func()) {
	r.Helper()
	text := fmt.Sprintf(`{"name":%q,"type":%q,"stream":"downstream","attributes":%s}`, kind, kind, attributes)
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		r.Fatal(err)
	}
	return func() {
		if err := p.Toxics.RemoveToxic(context.Background(), kind); err != nil {
			r.Error(err)
		}
	}
}

func TestConnectionResetDuringAPull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	proxy, image := r.proxy(r.push("reset", 1, 4<<20))
	r.registry.Throttle(1 << 20)
	id := r.submit(image.ref, 20).ID
	r.pulling(id)
	remove := r.toxic(proxy, "reset_peer", `{"timeout":0}`)
	r.noticed(id, "attempt 1 failed (registry_unavailable")
	r.registry.Throttle(0)
	remove()
	if job := r.succeeds(id, image); job.Attempt < 2 {
		t.Errorf("attempt %d", job.Attempt)
	}
}

func TestConnectionThatIsAlwaysResetFailsThePull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	proxy, image := r.proxy(r.push("resets", 1, 1<<10))
	r.toxic(proxy, "reset_peer", `{"timeout":0}`)
	r.refused(image.ref, 0, puller.ErrRegistryUnavailable, http.StatusBadGateway, 4)
}

func TestConnectionThatNothingComesThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	proxy, image := r.proxy(r.push("narrow", 1, 4<<20))
	r.registry.Throttle(1 << 20)
	once, again := r.submit(image.ref, 0).ID, r.submit(image.ref, 20).ID
	r.pulling(once)
	remove := r.toxic(proxy, "bandwidth", `{"rate":0}`)
	r.failed(r.ended(once), puller.ErrStalled)
	r.registry.Throttle(0)
	remove()
	if job := r.succeeds(again, image); job.Attempt < 2 {
		t.Errorf("attempt %d", job.Attempt)
	}
}

// Engines call what is on 127.0.0.0/8 without TLS if need be, so this registry
// listens on another address of the machine.
func TestRegistryWithACertificateOfNobodyFailsThePull(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	own, err := ownAddress()
	lab.Need(t, err)
	listener, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Listener.Close()
	server.Listener = listener
	server.TLS = &tls.Config{}
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	r.refused(listener.Addr().String()+"/x:v1", 0, puller.ErrRegistryUnavailable, http.StatusBadGateway, 4)
}

// ownAddress is an IPv4 address of this machine that is not on loopback.
func ownAddress() (string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String(), nil
		}
	}
	return "", errors.New("this machine has no address but loopback's")
}
