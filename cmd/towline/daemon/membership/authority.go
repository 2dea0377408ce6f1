package membership

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
)

// certificateFor returns the daemon's own certificate for the fleet's server, and the
// authority that hosts need to verify it, in PEM: "" for those of their system. It returns nil
// where there is no certificate, or hosts could not verify it: the server then has an
// authority of its own.
func certificateFor(o Options) (func() (*tls.Certificate, error), string, error) {
	now := o.Certificate
	if now == nil {
		return nil, "", nil
	}
	pair, err := now()
	if err != nil {
		return nil, "", err
	}
	ca, ok := authorityOf(pair, o.Config.Auth.TLS.CA)
	if !ok {
		o.Log.Warn("auth.tls.cert is not of an authority that is known here, so the fleet's server uses an authority of its own")
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
