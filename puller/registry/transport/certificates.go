package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// readCertificates reads a directory in the form of Docker's certs.d: authorities from
// *.crt, and a client certificate from *.cert and *.key of one name. The config is nil
// where there are none. The sum changes with the files.
func readCertificates(dir string) (config *tls.Config, sum [sha256.Size]byte, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sum, nil
	}
	if err != nil {
		return nil, sum, err
	}
	config = &tls.Config{}
	hash := sha256.New()
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch base, extension := strings.TrimSuffix(file, filepath.Ext(file)), filepath.Ext(file); extension {
		case ".crt":
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, sum, err
			}
			if config.RootCAs == nil {
				if config.RootCAs, err = x509.SystemCertPool(); err != nil {
					return nil, sum, err
				}
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, sum, fmt.Errorf("%s has no certificate in PEM", file)
			}
			fmt.Fprintln(hash, file, len(pem))
			hash.Write(pem)
		case ".cert":
			pair, err := tls.LoadX509KeyPair(file, base+".key")
			if err != nil {
				return nil, sum, fmt.Errorf("%s: %w", file, err)
			}
			config.Certificates = append(config.Certificates, pair)
			for _, raw := range pair.Certificate {
				fmt.Fprintln(hash, file, len(raw))
				hash.Write(raw)
			}
		}
	}
	if config.RootCAs == nil && config.Certificates == nil {
		return nil, sum, nil
	}
	return config, [sha256.Size]byte(hash.Sum(nil)), nil
}
