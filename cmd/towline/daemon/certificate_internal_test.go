package daemon

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth/authtest"
	"github.com/towline/towline/configs"
)

func TestCertificateReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := authtest.NewAuthority(t)
		ours.Issue("daemon", "first")
		logged := &bytes.Buffer{}
		log := logrus.New()
		log.SetOutput(logged)
		c, err := newCertificates(configs.Auth{TLS: configs.TLS{Cert: ours.File("daemon.pem"), Key: ours.File("daemon.key"), CA: ours.File("ca.pem")}}, log)
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
		ours.Issue("daemon", "second")
		check("first") // the files are not looked at for every handshake
		second()
		check("second")
		if err := os.WriteFile(ours.File("daemon.key"), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			second()
			check("second")
		}
		if n := strings.Count(logged.String(), "can't be used"); n != 1 {
			t.Errorf("a bad key is logged %d times:\n%s", n, logged)
		}
		os.Remove(ours.File("daemon.pem"))
		second()
		check("second")
		ours.Issue("daemon", "third")
		second()
		check("third")
	})
}

func TestEmptyTLSFiles(t *testing.T) {
	for _, name := range []string{"ca.pem", "daemon.pem", "daemon.key"} {
		synctest.Test(t, func(t *testing.T) {
			ours := authtest.NewAuthority(t)
			ours.Issue("daemon", "daemon")
			logged := &bytes.Buffer{}
			log := logrus.New()
			log.SetOutput(logged)
			options := configs.Auth{TLS: configs.TLS{Cert: ours.File("daemon.pem"), Key: ours.File("daemon.key"), CA: ours.File("ca.pem")}}
			c, err := newCertificates(options, log)
			if err != nil {
				t.Fatal(err)
			}
			before := c.config.Now()
			for _, content := range []string{"", "# nothing\n"} {
				if err := os.WriteFile(ours.File(name), []byte(content), 0o600); err != nil {
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
