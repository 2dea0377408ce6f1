package main

import (
	"crypto/x509"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// trustFallback has certificate authorities at hand where the system has none,
// as in the container image. To read them takes longer than many a command, so
// only those that may come to see a certificate call it.
var trustFallback = sync.OnceFunc(func() { x509.SetFallbackRoots(fallbackRoots()) })

func fallbackRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			panic("a certificate authority of our own: " + err.Error())
		}
		if root.Constraint == nil {
			pool.AddCert(certificate)
		} else {
			pool.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	return pool
}
