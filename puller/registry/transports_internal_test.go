package registry

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry/transport"
)

const someDigest = "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"

// served starts a registry without a log.
func served(t *testing.T, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", someDigest)
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(s)
	t.Cleanup(s.Close)
	return s
}

// redirected returns a client that calls this server for every host.
func redirected(t *testing.T, o Options, s *httptest.Server) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.transports, err = transport.New(transport.Options{Insecure: o.Insecure, EngineInsecure: o.EngineInsecure, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestInsecureRegistries(t *testing.T) {
	engine := func(list ...string) func(context.Context) ([]string, error) {
		return func(context.Context) ([]string, error) { return list, nil }
	}
	away := func(context.Context) ([]string, error) { return nil, errors.New("the engine does not answer") }
	for name, start := range map[string]func(*httptest.Server){"plain HTTP": (*httptest.Server).Start, "TLS with an unknown authority": (*httptest.Server).StartTLS} {
		s := served(t, start)
		for _, c := range []struct {
			image string
			o     Options
			ok    bool
		}{
			{"registry.test:5000/app:v1", Options{}, false},
			{"registry.test:5000/app:v1", Options{Insecure: []string{"registry.test:5000"}}, true},
			{"registry.test:5000/app:v1", Options{Insecure: []string{"REGISTRY.test.:05000"}}, true},
			{"registry.test:5000/app:v1", Options{Insecure: []string{"registry.test", "registry.test:5001", "other.test:5000"}}, false},
			{"registry.test:5000/app:v1", Options{EngineInsecure: engine("127.0.0.0/8", "registry.test:5000")}, true},
			{"registry.test:5000/app:v1", Options{EngineInsecure: engine("127.0.0.0/8")}, false},
			{"registry.test:5000/app:v1", Options{EngineInsecure: away}, false},
			{"registry.test:5000/app:v1", Options{EngineInsecure: away, Insecure: []string{"registry.test:5000"}}, true},
			{"10.1.2.3:5000/app:v1", Options{Insecure: []string{"10.0.0.0/8"}}, true},
			{"10.1.2.3:5000/app:v1", Options{EngineInsecure: engine("10.0.0.0/8")}, true},
			{"10.1.2.3:5000/app:v1", Options{Insecure: []string{"10.2.0.0/16", "", "/", "10.0.0.0/99"}[:1]}, false},
			{"10.1.2.3:5000/app:v1", Options{}, false}, // a private address is not insecure by itself
		} {
			got, err := redirected(t, c.o, s).Head(t.Context(), c.image, puller.Credentials{})
			if c.ok && (err != nil || got != someDigest) || !c.ok && puller.KindOf(err) != puller.ErrRegistryUnavailable {
				t.Errorf("%s, %s with %v: %q, %v", name, c.image, c.o.Insecure, got, err)
			}
		}
	}
	for _, bad := range []string{"", "https://registry.test", "registry.test/app", "10.0.0.0/99"} {
		if _, err := New(Options{Insecure: []string{bad}}); err == nil || !strings.HasPrefix(err.Error(), "registries.insecure: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDockerCertificates(t *testing.T) {
	s := served(t, (*httptest.Server).StartTLS)
	host := s.Listener.Addr().String()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	dir := t.TempDir()
	c, err := New(Options{AllowPrivate: []string{"127.0.0.1"}, Certificates: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := func() error {
		_, err := c.Head(t.Context(), host+"/app:v1", puller.Credentials{})
		return err
	}
	if err := head(); puller.KindOf(err) != puller.ErrRegistryUnavailable {
		t.Errorf("without an authority: %v", err)
	}
	own := filepath.Join(dir, host)
	write := func(name string, content []byte) {
		err := os.MkdirAll(own, 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(own, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("readme", []byte("ignored"))
	write("ca.crt", authority)
	for range 2 { // the second call reuses the transport
		if err := head(); err != nil {
			t.Errorf("with its authority: %v", err)
		}
	}
	write("ca.crt", []byte("no certificate"))
	if err := head(); err == nil || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("with an authority that is garbled: %v", err)
	}
	write("ca.crt", authority)
	write("client.cert", authority)
	if err := head(); err == nil || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("with a certificate that lacks its key: %v", err)
	}
}
