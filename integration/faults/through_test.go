package faults_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// TestMirrorThrough is a plain docker pull from an engine that has Towline among its
// registry-mirrors. The engine can't reach Docker Hub, and Towline reaches it by a proxy that
// leads to the registry of the test.
func TestMirrorThrough(t *testing.T) {
	t.Parallel()
	lab.Need(t, site.err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := lab.Private(t.Context(), dir+"/e", lab.PrivateOptions{Flags: []string{"--registry-mirror=http://" + address, "--max-download-attempts=1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	hub := newHub(t, filepath.Join(dir, "certs"))
	r := newRigIn(t, engine, dir, lab.TowlineOptions{
		Config: fmt.Sprintf("mirror: {mode: alias, listen: %q, min_size: 0MiB, chunk: 1MiB, pull_through: true}\nregistries: {certificates: %q}\n", address, filepath.Join(dir, "certs")),
		Env:    []string{"HTTPS_PROXY=" + hub.proxy.URL, "NO_PROXY=127.0.0.1"},
	})
	r.idle = 24
	hub.leadsTo(r.registry)
	r.endpoint()
	image := r.push("library/through", 2, 5<<20)
	r.registry.ResetCounts()
	pull := func() string {
		resp, err := engine.Do(t.Context(), http.MethodPost, "/images/create?fromImage=through&tag=v1", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		said, _ := io.ReadAll(resp.Body)
		return string(said)
	}
	for range 2 { // the second one is from the cache
		said := pull()
		id, err := engine.ImageID(t.Context(), "through:v1")
		if err != nil || id != image.id || !strings.Contains(said, image.digest) {
			t.Fatalf("the engine has %s (%v), and said %s", id, err, said)
		}
		if err := engine.RemoveImage(t.Context(), "through:v1"); err != nil {
			t.Fatal(err)
		}
	}
	r.once(image, 0)
	if e, err := r.client.Engine(t.Context()); err != nil || e.Accelerator.Way != puller.WayAlias {
		t.Errorf("%+v (%v)", e.Accelerator, err)
	}
}

// hub is Docker Hub as a daemon sees it that uses its proxy and trusts its certificate.
type hub struct {
	proxy, tls *httptest.Server
	registry   *lab.Registry
}

// newHub puts the certificate of its authority into a directory in the form of Docker's
// certs.d.
func newHub(t *testing.T, certs string) *hub {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"index.docker.io", "registry-1.docker.io"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(certs, "docker.io"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(certs, "docker.io", "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o644); err != nil {
		t.Fatal(err)
	}
	h := &hub{}
	h.tls = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		to := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: h.registry.Addr()})
		}, FlushInterval: -1}
		to.ServeHTTP(w, req)
	}))
	h.tls.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	h.tls.StartTLS()
	t.Cleanup(h.tls.Close)
	h.proxy = httptest.NewServer(http.HandlerFunc(h.connect))
	t.Cleanup(h.proxy.Close)
	return h
}

func (h *hub) leadsTo(r *lab.Registry) { h.registry = r }

// connect is the method CONNECT of a proxy, whatever the host is.
func (h *hub) connect(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodConnect {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	to, err := net.Dial("tcp", h.tls.Listener.Addr().String())
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer to.Close()
	w.WriteHeader(http.StatusOK)
	from, read, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	go func() {
		defer to.Close()
		io.Copy(to, read) // the server may have read the first byte
	}()
	io.Copy(from, to)
}
