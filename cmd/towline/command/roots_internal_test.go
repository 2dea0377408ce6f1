package command

import (
	"crypto/x509"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestFallbackRoots(t *testing.T) {
	pool, trusted := fallbackRoots(), 0
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // it trusts only what was signed before some day
		}
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := certificate.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: certificate.NotAfter.Add(-time.Hour)}); err != nil {
			t.Errorf("%s: %v", certificate.Subject, err)
		}
		trusted++
	}
	if trusted < 50 {
		t.Errorf("only %d authorities are trusted", trusted)
	}
}
