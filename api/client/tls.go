package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS names PEM files for a daemon at https://…. All may be empty.
type TLS struct {
	CA        string // the authority of the daemon's certificate; empty: those of the system
	Cert, Key string // the client's certificate
}

// config reads the files.
func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		raw, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("the authority of the daemon's certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("the authority of the daemon's certificate: %s has no certificate in PEM", t.CA)
		}
	}
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return nil, errors.New("a client certificate and its key go together; set --tlscert and --tlskey")
	case t.Cert == "":
		return config, nil
	}
	own, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("the client certificate: %w", err)
	}
	config.Certificates = []tls.Certificate{own}
	return config, nil
}
