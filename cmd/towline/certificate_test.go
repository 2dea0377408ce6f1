package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/configs"
)

func TestTLS(t *testing.T) {
	ours, theirs := authtest.NewAuthority(t), authtest.NewAuthority(t)
	ours.Issue("daemon", "daemon-1")
	ours.Issue("client", "build")
	ours.Issue("other", "other")
	theirs.Issue("client", "build")
	address, c := overTCP(t, func(c *configs.Config) {
		c.Auth.TokenFile = ""
		c.Auth.TLS = configs.TLS{Cert: ours.File("daemon.pem"), Key: ours.File("daemon.key"), CA: ours.File("ca.pem")}
	})
	stop := startServe(t, c)
	call := func(code int, says string, args ...string) {
		t.Helper()
		got, out, err := run(t.Context(), append([]string{"jobs", "--host", "https://" + address}, args...)...)
		if got != code || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: exit code %d, %v\n%s", args, got, err, out)
		}
	}
	ca := "--tlscacert=" + ours.File("ca.pem")
	with := func(a *authtest.Authority, name string) []string {
		return []string{ca, "--tlscert=" + a.File(name+".pem"), "--tlskey=" + a.File(name+".key")}
	}
	call(0, "", with(ours, "client")...)
	call(exit.CodeNoDaemon, "--tlscert", ca)
	call(exit.CodeNoDaemon, "", with(theirs, "client")...)
	call(exit.CodeNoDaemon, "--tlscacert")
	call(exit.CodeUsage, "go together", ca, "--tlscert="+ours.File("client.pem"))
	call(exit.CodeUsage, "/nowhere", "--tlscacert=/nowhere")
	t.Setenv("TOWLINE_TLSCACERT", ours.File("ca.pem"))
	t.Setenv("TOWLINE_TLSCERT", ours.File("client.pem"))
	t.Setenv("TOWLINE_TLSKEY", ours.File("client.key"))
	call(0, "")
	os.Unsetenv("TOWLINE_TLSCERT")
	os.Unsetenv("TOWLINE_TLSKEY")

	// Versions and protocols.
	pair, err := tls.LoadX509KeyPair(ours.File("client.pem"), ours.File("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ours.Cert)
	for version, fine := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
		if fine != (err == nil) {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
				t.Errorf("%s speaks %q", tls.VersionName(version), p)
			}
			conn.Close()
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	// With tokens too, a certificate is one of two ways, and the file says for what.
	c.Auth.TokenFile = filepath.Join(directory(t), "tokens.yaml")
	reader := token(t, c.Auth.TokenFile, "reader", "--scope", "read")
	startServe(t, c)
	call(exit.CodeFailed, "TOWLINE_TOKEN", ca)
	call(0, "", ca, "--token", reader)
	call(0, "", with(ours, "client")...)
	call(exit.CodeFailed, "not known", append(with(ours, "client"), "--token", "wrong")...)
}

func TestCertificateScopes(t *testing.T) {
	ours := authtest.NewAuthority(t)
	for _, name := range []string{"daemon", "build", "reader", "stranger"} {
		ours.Issue(name, name)
	}
	address, c := overTCP(t, func(c *configs.Config) {
		c.Auth.TLS = configs.TLS{Cert: ours.File("daemon.pem"), Key: ours.File("daemon.key"), CA: ours.File("ca.pem")}
	})
	if err := os.WriteFile(c.Auth.TokenFile, []byte("certificates:\n  - name: build\n    scopes: [pull]\n  - name: reader\n    scopes: [read]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startServe(t, c)
	for name, want := range map[string]struct {
		code int
		says string
	}{"reader": {0, ""}, "build": {exit.CodePermanent, "cert:build has pull"}, "stranger": {exit.CodeFailed, `"stranger"`}} {
		code, _, err := run(t.Context(), "jobs", "--host", "https://"+address, "--tlscacert", ours.File("ca.pem"), "--tlscert", ours.File(name+".pem"), "--tlskey", ours.File(name+".key"))
		if code != want.code || err != nil && !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: exit code %d, %v", name, code, err)
		}
	}
}

func TestPullOverTLS(t *testing.T) {
	ours := authtest.NewAuthority(t)
	ours.Issue("daemon", "daemon")
	host, engine := engineSocket(t)
	playFresh(engine)
	address, c := overTCP(t, func(c *configs.Config) {
		c.Engine.Host = host
		c.Auth.TLS = configs.TLS{Cert: ours.File("daemon.pem"), Key: ours.File("daemon.key")}
	})
	ci := token(t, c.Auth.TokenFile, "ci", "--scope", "read,pull")
	stop := startServe(t, c)
	code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "--host", "https://"+address, "--tlscacert", ours.File("ca.pem"), "--token", ci)
	if code != 0 || !strings.Contains(out, ": pulled, sha256:") {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
