package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/docker/go-connections/tlsconfig"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
)

// certificates are what the daemon shows under TLS, and what clients must show,
// as their files have it: a change is seen within certificatesEvery of the next
// handshake. What can't be used by then is logged, and changes nothing.
type certificates struct {
	options tlsconfig.Options
	log     logrus.FieldLogger

	mu     sync.Mutex
	config *tls.Config
	seen   []os.FileInfo // of the files that were read last; nil for one that was not there
	looked time.Time
}

// certificatesEvery is how often the files are looked at, at most.
const certificatesEvery = time.Second

// newCertificates reads the files. It returns nil where there is to be no TLS.
func newCertificates(auth configs.Auth, log logrus.FieldLogger) (*certificates, error) {
	if auth.TLS.Cert == "" {
		return nil, nil
	}
	c := &certificates{log: log, options: tlsconfig.Options{
		CertFile: auth.TLS.Cert, KeyFile: auth.TLS.Key, CAFile: auth.TLS.CA,
		// A client's certificate comes from this authority and no other: those
		// that browsers trust sign for anyone.
		ExclusiveRootPools: true,
	}}
	if auth.TLS.CA != "" {
		c.options.ClientAuth = tls.RequireAndVerifyClientCert
		if auth.TokenFile != "" {
			c.options.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	c.seen, c.looked = c.look(), time.Now()
	var err error
	if c.config, err = c.read(); err != nil {
		return nil, fmt.Errorf("auth.tls: %w", err)
	}
	return c, nil
}

func (c *certificates) read() (*tls.Config, error) {
	config, err := tlsconfig.Server(c.options)
	if err != nil {
		return nil, err
	}
	// Of HTTP/2 nothing is gained: a connection serves one stream of events.
	config.NextProtos = []string{"http/1.1"}
	return config, nil
}

func (c *certificates) look() []os.FileInfo {
	var all []os.FileInfo
	for _, path := range []string{c.options.CertFile, c.options.KeyFile, c.options.CAFile} {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		all = append(all, info)
	}
	return all
}

// server returns a configuration that follows the files.
func (c *certificates) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.now(), nil
	}}
}

func (c *certificates) now() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if d := now.Sub(c.looked); d >= 0 && d < certificatesEvery {
		return c.config
	}
	c.looked = now
	seen := c.look()
	if sameFiles(seen, c.seen) {
		return c.config
	}
	c.seen = seen
	config, err := c.read()
	if err != nil {
		// Also while only one of two files has been replaced.
		c.log.WithError(err).Error("auth.tls: the new files can't be used; the certificates stay as they were")
		return c.config
	}
	c.config = config
	c.log.Info("auth.tls: the certificates were read anew")
	return c.config
}

func sameFiles(a, b []os.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && !(os.SameFile(a[i], b[i]) && a[i].ModTime().Equal(b[i].ModTime()) && a[i].Size() == b[i].Size()) {
			return false
		}
	}
	return true
}
