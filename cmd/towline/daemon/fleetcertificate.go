package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
)

// fleetCertificate returns the daemon's own certificate for the fleet's server, and the
// authority that hosts need to verify it, in PEM: "" for those of their system. It returns nil
// where there is no certificate, or hosts could not verify it: the server then has an
// authority of its own.
func fleetCertificate(c configs.Auth, log logrus.FieldLogger) (func() (*tls.Certificate, error), string, error) {
	certificates, err := newCertificates(c, log)
	if err != nil || certificates == nil {
		return nil, "", err
	}
	now := func() (*tls.Certificate, error) {
		if all := certificates.config.Now().Certificates; len(all) > 0 {
			return &all[0], nil
		}
		return nil, errors.New("auth.tls.cert has no certificate")
	}
	pair, err := now()
	if err != nil {
		return nil, "", err
	}
	ca, ok := authorityOf(pair, c.TLS.CA)
	if !ok {
		log.Warn("auth.tls.cert is not of an authority that is known here, so the fleet's server uses an authority of its own")
		return nil, "", nil
	}
	return now, ca, nil
}

// authorityOf returns the authority of a certificate, in PEM: "" for one of the system, that of
// the file, or the last certificate of the chain. ok is false for none of them.
func authorityOf(pair *tls.Certificate, file string) (ca string, ok bool) {
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "", false
		}
		chain = append(chain, c)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	verifies := func(roots *x509.CertPool) bool {
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
		return err == nil
	}
	if verifies(nil) {
		return "", true
	}
	if content, err := os.ReadFile(file); err == nil {
		roots := x509.NewCertPool()
		if roots.AppendCertsFromPEM(content) && verifies(roots) {
			return string(content), true
		}
	}
	last := chain[len(chain)-1]
	roots := x509.NewCertPool()
	roots.AddCert(last)
	if last.IsCA && verifies(roots) {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: last.Raw})), true
	}
	return "", false
}
