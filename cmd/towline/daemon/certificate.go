package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/docker/go-connections/tlsconfig"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/configs"
)

// certificates are the TLS configuration of the daemon: its certificate, and the
// authority of the clients' certificates. A change of the files counts within a second.
// The log has a change that can't be used.
type certificates struct {
	options tlsconfig.Options
	log     logrus.FieldLogger
	config  *auth.Reloaded[*tls.Config]
}

// newCertificates reads the files. It returns nil if there is no certificate.
func newCertificates(c configs.Auth, log logrus.FieldLogger) (*certificates, error) {
	if c.TLS.Cert == "" {
		return nil, nil
	}
	all := &certificates{log: log, options: tlsconfig.Options{
		CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, CAFile: c.TLS.CA,
		// The system's authorities sign for anyone.
		ExclusiveRootPools: true,
	}}
	if c.TLS.CA != "" {
		all.options.ClientAuth = tls.RequireAndVerifyClientCert
		if c.TokenFile != "" {
			all.options.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	failed := func(err error) { // also while only one of two files is replaced
		log.WithError(err).Error("auth.tls: the new files can't be used; the certificates stay as they were")
	}
	var err error
	if all.config, err = auth.Load(all.read, failed, c.TLS.Cert, c.TLS.Key, c.TLS.CA); err != nil {
		return nil, fmt.Errorf("auth.tls: %w", err)
	}
	return all, nil
}

func (c *certificates) read(old *tls.Config) (*tls.Config, error) {
	config, err := tlsconfig.Server(c.options)
	if err != nil {
		return nil, err
	}
	// A connection serves one stream of events, so HTTP/2 has no advantage.
	config.NextProtos = []string{"http/1.1"}
	if old != nil {
		c.log.Info("auth.tls: the certificates were read again")
	}
	return config, nil
}

// server returns a configuration that follows the files.
func (c *certificates) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.config.Now(), nil
	}}
}

// own returns the daemon's certificate as it is at the time of each call, nil if there is none.
func (c *certificates) own() func() (*tls.Certificate, error) {
	if c == nil {
		return nil
	}
	return func() (*tls.Certificate, error) {
		if all := c.config.Now().Certificates; len(all) > 0 {
			return &all[0], nil
		}
		return nil, errors.New("auth.tls.cert has no certificate")
	}
}
