package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/puller/ownerfile"
)

// The certificates begin long before now, and end long after: clocks of hosts are wrong by
// hours or years, and nobody renews the invitations.
var (
	validFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC)
)

// authority signs the certificates of the server. Hosts get its certificate with their
// invitation, and trust no other.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string // the certificate

	mu    sync.Mutex
	names []string         // of the server, and its addresses that were called
	leaf  *tls.Certificate // for names; nil before the first call
}

// openAuthority reads the file, and makes it if there is none.
func openAuthority(path, fleet string, names []string) (*authority, error) {
	const most = 64 << 10
	content, mode, err := ownerfile.Read(path, most)
	if errors.Is(err, fs.ErrNotExist) {
		if content, err = newAuthority(fleet); err == nil {
			err = writeNew(path, content)
		}
	} else if err == nil && mode&0o077 != 0 {
		err = fmt.Errorf("other users can read it (%v), and it has a private key; run chmod 600 on it", mode)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	const advice = "Put back a copy; or remove the file, and invite all hosts again"
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		return nil, fmt.Errorf("%s: the key and the certificate of the fleet's server are damaged: %w. %s", path, err, advice)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s: it is not what Towline makes. %s", path, advice)
	}
	return &authority{key: key, cert: pair.Leaf, names: names, pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw}))}, nil
}

// newAuthority returns a key and its own certificate, in PEM.
func newAuthority(fleet string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "towline fleet " + fleet}, NotBefore: validFrom, NotAfter: validUntil,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
	), nil
}

// serial returns a number for a certificate.
func serial() *big.Int {
	const bytes = 15
	var b [bytes]byte
	rand.Read(b[:]) // it never fails
	return new(big.Int).SetBytes(b[:])
}

// writeNew writes a file of mode 0600, whole or not at all.
func writeNew(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// certificate returns a certificate of the server for its names, and the address that was
// called. A service may be shut off from the list of the machine's addresses.
func (a *authority) certificate(called net.Addr) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if tcp, ok := called.(*net.TCPAddr); ok && !slices.Contains(a.names, tcp.IP.String()) {
		a.names, a.leaf = append(a.names, tcp.IP.String()), nil
	}
	if a.leaf != nil {
		return a.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "towline"}, NotBefore: validFrom, NotAfter: validUntil,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	a.leaf = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return a.leaf, nil
}
