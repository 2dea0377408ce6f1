package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	last int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("authority", nil)
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	path := a.file(name)
	if err := os.WriteFile(path+"~", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) sign(name string, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.last++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.last), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signer, signerKey := parent, a.key
	if parent == nil {
		signer, signerKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer, &key.PublicKey, signerKey)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(file, name string) {
	a.t.Helper()
	c, key := a.sign(name, a.cert)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(file+".key", "EC PRIVATE KEY", der)
	a.write(file+".pem", "CERTIFICATE", c.Raw)
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.issue("daemon", "daemon-1")
	ours.issue("client", "build")
	ours.issue("other", "other")
	theirs.issue("client", "build")
	address, c := overTCP(t, func(c *configs.Config) {
		c.Auth.TokenFile = ""
		c.Auth.TLS = configs.TLS{Cert: ours.file("daemon.pem"), Key: ours.file("daemon.key"), CA: ours.file("ca.pem")}
	})
	stop := startServe(t, c)
	call := func(code int, says string, args ...string) {
		t.Helper()
		got, out, err := run(t.Context(), append([]string{"jobs", "--host", "https://" + address}, args...)...)
		if got != code || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: exit code %d, %v\n%s", args, got, err, out)
		}
	}
	ca := "--tlscacert=" + ours.file("ca.pem")
	with := func(a *authority, name string) []string {
		return []string{ca, "--tlscert=" + a.file(name+".pem"), "--tlskey=" + a.file(name+".key")}
	}
	call(0, "", with(ours, "client")...)
	call(exitNoDaemon, "--tlscert", ca)
	call(exitNoDaemon, "", with(theirs, "client")...)
	call(exitNoDaemon, "--tlscacert")
	call(exitUsage, "go together", ca, "--tlscert="+ours.file("client.pem"))
	call(exitUsage, "/nowhere", "--tlscacert=/nowhere")
	t.Setenv("TOWLINE_TLSCACERT", ours.file("ca.pem"))
	t.Setenv("TOWLINE_TLSCERT", ours.file("client.pem"))
	t.Setenv("TOWLINE_TLSKEY", ours.file("client.key"))
	call(0, "")
	os.Unsetenv("TOWLINE_TLSCERT")
	os.Unsetenv("TOWLINE_TLSKEY")

	// Versions and protocols.
	pair, err := tls.LoadX509KeyPair(ours.file("client.pem"), ours.file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
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
	call(exitFailed, "TOWLINE_TOKEN", ca)
	call(0, "", ca, "--token", reader)
	call(0, "", with(ours, "client")...)
	call(exitFailed, "not known", append(with(ours, "client"), "--token", "wrong")...)
}

func TestCertificateScopes(t *testing.T) {
	ours := newAuthority(t)
	for _, name := range []string{"daemon", "build", "reader", "stranger"} {
		ours.issue(name, name)
	}
	address, c := overTCP(t, func(c *configs.Config) {
		c.Auth.TLS = configs.TLS{Cert: ours.file("daemon.pem"), Key: ours.file("daemon.key"), CA: ours.file("ca.pem")}
	})
	if err := os.WriteFile(c.Auth.TokenFile, []byte("certificates:\n  - name: build\n    scopes: [pull]\n  - name: reader\n    scopes: [read]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startServe(t, c)
	for name, want := range map[string]struct {
		code int
		says string
	}{"reader": {0, ""}, "build": {exitPermanent, "cert:build has pull"}, "stranger": {exitFailed, `"stranger"`}} {
		code, _, err := run(t.Context(), "jobs", "--host", "https://"+address, "--tlscacert", ours.file("ca.pem"), "--tlscert", ours.file(name+".pem"), "--tlskey", ours.file(name+".key"))
		if code != want.code || err != nil && !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: exit code %d, %v", name, code, err)
		}
	}
}

func TestCertificateReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := newAuthority(t)
		ours.issue("daemon", "first")
		logged := &lines{}
		log := logrus.New()
		log.SetOutput(logged)
		c, err := newCertificates(configs.Auth{TLS: configs.TLS{Cert: ours.file("daemon.pem"), Key: ours.file("daemon.key"), CA: ours.file("ca.pem")}}, log)
		if err != nil {
			t.Fatal(err)
		}
		check := func(want string) {
			t.Helper()
			config, err := c.server().GetConfigForClient(nil)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if leaf.Subject.CommonName != want {
				t.Errorf("the certificate is %s, want %s", leaf.Subject.CommonName, want)
			}
			if config.MinVersion != tls.VersionTLS12 || config.ClientAuth != tls.RequireAndVerifyClientCert {
				t.Errorf("%s: TLS from %x on, client certificates are %v", want, config.MinVersion, config.ClientAuth)
			}
			if system, err := x509.SystemCertPool(); err == nil && config.ClientCAs.Equal(system) {
				t.Error("the system's authorities may sign for clients")
			}
		}
		second := func() { <-time.After(time.Second) }
		check("first")
		ours.issue("daemon", "second")
		check("first") // the files are not looked at for every handshake
		second()
		check("second")
		if err := os.WriteFile(ours.file("daemon.key"), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			second()
			check("second")
		}
		if n := strings.Count(logged.String(), "can't be used"); n != 1 {
			t.Errorf("a bad key is logged %d times:\n%s", n, logged)
		}
		os.Remove(ours.file("daemon.pem"))
		second()
		check("second")
		ours.issue("daemon", "third")
		second()
		check("third")
	})
}

func TestPullOverTLS(t *testing.T) {
	ours := newAuthority(t)
	ours.issue("daemon", "daemon")
	host, engine := engineSocket(t)
	playFresh(engine)
	address, c := overTCP(t, func(c *configs.Config) {
		c.Engine.Host = host
		c.Auth.TLS = configs.TLS{Cert: ours.file("daemon.pem"), Key: ours.file("daemon.key")}
	})
	ci := token(t, c.Auth.TokenFile, "ci", "--scope", "read,pull")
	stop := startServe(t, c)
	code, out, err := run(t.Context(), "pull", "127.0.0.1:5000/lab0:v1", "--host", "https://"+address, "--tlscacert", ours.file("ca.pem"), "--token", ci)
	if code != 0 || !strings.Contains(out, ": pulled, sha256:") {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestEmptyTLSFiles(t *testing.T) {
	for _, name := range []string{"ca.pem", "daemon.pem", "daemon.key"} {
		synctest.Test(t, func(t *testing.T) {
			ours := newAuthority(t)
			ours.issue("daemon", "daemon")
			logged := &lines{}
			log := logrus.New()
			log.SetOutput(logged)
			options := configs.Auth{TLS: configs.TLS{Cert: ours.file("daemon.pem"), Key: ours.file("daemon.key"), CA: ours.file("ca.pem")}}
			c, err := newCertificates(options, log)
			if err != nil {
				t.Fatal(err)
			}
			before := c.config.Now()
			for _, content := range []string{"", "# nothing\n"} {
				if err := os.WriteFile(ours.file(name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := newCertificates(options, log); err == nil || !strings.HasPrefix(err.Error(), "auth.tls: ") {
					t.Errorf("%s is %q: a start ends with %v", name, content, err)
				}
				<-time.After(time.Second)
				if c.config.Now() != before || !strings.Contains(logged.String(), "stay as they were") {
					t.Errorf("%s is %q: it counts, and the log is\n%s", name, content, logged)
				}
			}
		})
	}
}
