package configs

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// Auth says how callers over TCP prove who they are.
type Auth struct {
	TokenFile string   `mapstructure:"token_file"`
	Hosts     []string `mapstructure:"hosts"` // names by which callers may address the daemon
	TLS       TLS      `mapstructure:"tls"`
	// VerifyImageAccess gives a present image only to callers whose own
	// credentials its registry accepts.
	VerifyImageAccess bool `mapstructure:"verify_image_access"`
}

// TLS holds the paths of PEM files.
type TLS struct {
	Cert string `mapstructure:"cert"`
	Key  string `mapstructure:"key"`
	CA   string `mapstructure:"ca"` // that client certificates must come from
}

// KnowsCallers reports whether callers over TCP can prove who they are.
func (a Auth) KnowsCallers() bool { return a.TokenFile != "" || a.TLS.CA != "" }

// HowToKnow says what to set so that callers can prove who they are.
const HowToKnow = "anyone who reaches it could pull and run anything; set auth.token_file, or auth.tls.cert, auth.tls.key and auth.tls.ca for client certificates"

// Activated stands in listen for the sockets that systemd passes.
const Activated = "fd://"

func (c Config) checkListen() error {
	if len(c.Listen) == 0 {
		return errors.New("listen: empty; name at least one address, such as unix:///run/towline/towline.sock")
	}
	seen := make(map[string]bool)
	for _, address := range c.Listen {
		if seen[address] {
			return fmt.Errorf("listen: %s is listed twice", address)
		}
		seen[address] = true
		u, err := url.Parse(address)
		switch {
		case err == nil && u.Scheme == "tcp":
			if err = checkTCP(u); err == nil && !c.Auth.KnowsCallers() {
				err = errors.New(HowToKnow)
			}
		case address == Activated:
		case err != nil || u.Scheme != "unix" || u.Host != "" || !filepath.IsAbs(u.Path):
			return fmt.Errorf("listen: %q is not an address; write unix:///PATH, tcp://HOST:PORT, or fd:// for the sockets that systemd passes", address)
		case len(u.Path) > maxSocketPath:
			err = fmt.Errorf("the path is %d bytes long; the limit of a unix socket is %d", len(u.Path), maxSocketPath)
		}
		if err != nil {
			return fmt.Errorf("listen: %s: %w", address, err)
		}
	}
	return nil
}

// maxSocketPath is the length limit of a unix socket's path on Linux, in bytes (unix(7)).
const maxSocketPath = 107

func checkTCP(u *url.URL) error {
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return errors.New("write tcp://HOST:PORT")
	}
	if host == "" {
		return errors.New("no host; write tcp://0.0.0.0:PORT to listen on every address")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

func (a Auth) check() error {
	for _, f := range []struct{ key, path string }{
		{"token_file", a.TokenFile}, {"tls.cert", a.TLS.Cert}, {"tls.key", a.TLS.Key}, {"tls.ca", a.TLS.CA},
	} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return fmt.Errorf("auth.%s: %q is not an absolute path", f.key, f.path)
		}
	}
	switch t := a.TLS; {
	case t.Cert != "" && t.Key == "":
		return errors.New("auth.tls.key: empty; auth.tls.cert needs its key")
	case t.Key != "" && t.Cert == "":
		return errors.New("auth.tls.cert: empty; auth.tls.key needs its certificate")
	case t.CA != "" && t.Cert == "":
		return errors.New("auth.tls.cert: empty; client certificates also need the daemon's certificate and key")
	}
	for _, name := range a.Hosts {
		if name == "" || strings.ContainsAny(name, "/ *@") || strings.Contains(name, ":") && net.ParseIP(name) == nil {
			return fmt.Errorf("auth.hosts: %q is not a name or an address; write it without scheme and port", name)
		}
	}
	return nil
}
