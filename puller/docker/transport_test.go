package docker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
)

// answerInfo is an engine that answers only what it is.
func answerInfo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	w.Write([]byte(`{"Version":"20.10","ApiVersion":"1.41","Driver":"overlay2"}`))
}

func TestTransportHosts(t *testing.T) {
	dir, err := os.MkdirTemp("", "tl") // a short path, as sockets need
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	overUnix := httptest.NewUnstartedServer(http.HandlerFunc(answerInfo))
	overUnix.Listener.Close()
	overUnix.Listener = l
	overUnix.Start()
	defer overUnix.Close()
	overTCP := httptest.NewServer(http.HandlerFunc(answerInfo))
	defer overTCP.Close()

	address := overTCP.Listener.Addr().String()
	for _, host := range []string{"unix://" + socket, "tcp://" + address, "http://" + address} {
		for _, byEnvironment := range []bool{false, true} {
			o := docker.Options{Host: host}
			t.Setenv("DOCKER_HOST", "unix:///nonexistent.sock")
			if byEnvironment {
				o.Host = ""
				t.Setenv("DOCKER_HOST", host)
			}
			wantReached(t, o)
		}
	}
}

func wantReached(t *testing.T, o docker.Options) {
	t.Helper()
	e, err := docker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if info, err := e.Info(t.Context()); err != nil || !info.Reachable {
		t.Errorf("%+v: %+v, %v", o, info, err)
	}
}

// The engine asks for a client certificate, as dockerd does with --tlsverify.
func TestTransportTLS(t *testing.T) {
	dir, pool, server := certificates(t)
	overTLS := httptest.NewUnstartedServer(http.HandlerFunc(answerInfo))
	overTLS.Config.ErrorLog = log.New(io.Discard, "", 0)
	overTLS.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	overTLS.StartTLS()
	defer overTLS.Close()
	host := "tcp://" + overTLS.Listener.Addr().String()

	t.Setenv("DOCKER_CERT_PATH", dir)
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	wantReached(t, docker.Options{Host: host})

	t.Setenv("DOCKER_CERT_PATH", "")
	if _, err := docker.New(docker.Options{Host: host}); err == nil || !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
		t.Errorf("DOCKER_TLS_VERIFY without certificates: %v", err)
	}
	t.Setenv("DOCKER_TLS_VERIFY", "")
	e, err := docker.New(docker.Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Info(t.Context()); puller.KindOf(err) != puller.ErrEngineUnavailable {
		t.Errorf("plain HTTP to a TLS engine: %v", err)
	}
	t.Setenv("DOCKER_CERT_PATH", t.TempDir())
	if _, err := docker.New(docker.Options{Host: host}); err == nil || !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
		t.Errorf("a DOCKER_CERT_PATH without files: %v", err)
	}
}

func TestTransportInvalidHosts(t *testing.T) {
	for _, host := range []string{"nonsense", "ssh://user@host", "ftp://host", "unix"} {
		if _, err := docker.New(docker.Options{Host: host}); err == nil || !strings.Contains(err.Error(), host) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// certificates makes a CA, a server's certificate, and a folder with a
// client's as Docker lays them out.
func certificates(t *testing.T) (dir string, pool *x509.CertPool, server tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "engine"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	dir = t.TempDir()
	for name, content := range map[string][]byte{"ca.pem": certPEM, "cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	if server, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return dir, pool, server
}

// The SDK's words have an escaped address of the socket, which nobody can read.
func TestNoAnswerInTime(t *testing.T) {
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts nobody
	e, err := docker.New(docker.Options{Host: "unix://" + l.Addr().String(), APIVersion: "1.41"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Info(ctx); err == nil || !strings.Contains(err.Error(), "the engine has not answered in time") || strings.Contains(err.Error(), "%2F") {
		t.Errorf("%v", err)
	}
}
