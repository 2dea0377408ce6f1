package configs

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/towline/towline/puller/fleet"
)

// Fleet says which fleet this host is in. Without URL, Embedded and Creds it is in none. What
// is left out of Name and URL is in the invitation that Creds names.
type Fleet struct {
	Name string `mapstructure:"name"` // fleets with different names may share a NATS
	// URL is of NATS servers, with commas. With Embedded it is how hosts reach this one.
	URL      string `mapstructure:"url"`
	Embedded bool   `mapstructure:"embedded"` // this daemon runs the NATS server
	Listen   string `mapstructure:"listen"`   // HOST:PORT of the embedded server
	Creds    string `mapstructure:"creds"`    // the path of a file with credentials
	// Labels are names with values, by which sets choose hosts.
	Labels     map[string]string `mapstructure:"labels"`
	Zone       string            `mapstructure:"zone"`                                       // where this host is: hosts of one zone are near to each other
	PeerListen string            `mapstructure:"peer_listen"`                                // HOST:PORT for other hosts; "" gives them nothing
	UploadRate int64             `mapstructure:"upload_rate" default:"0" range:"0MiB..1TiB"` // bytes a second at most, to all peers; 0 is without limit
}

// Enabled reports whether this host is in a fleet.
func (f Fleet) Enabled() bool { return f.URL != "" || f.Embedded || f.Creds != "" }

// check returns the first fault that the tags do not say.
func (f Fleet) check() error {
	if err := fleet.CheckFleetName(f.Name); err != nil && (f.Name != "" || f.Enabled() && f.Creds == "") {
		return fmt.Errorf("fleet.%w", err)
	}
	if err := fleet.CheckLabels("labels", f.Labels); err != nil {
		return fmt.Errorf("fleet.%w", err)
	}
	if err := fleet.CheckZone(f.Zone); err != nil {
		return fmt.Errorf("fleet.%w", err)
	}
	if err := checkAddress("fleet.peer_listen", f.PeerListen); err != nil {
		return err
	}
	if err := checkAddress("fleet.listen", f.Listen); err != nil {
		return err
	}
	switch {
	case !f.Enabled():
		return nil
	case f.Embedded && f.Creds != "":
		return fmt.Errorf("fleet.creds: %q is set, and so is fleet.embedded; a daemon with a server of its own needs no credentials: leave one of the two out", f.Creds)
	case f.Embedded && f.Listen == "":
		return fmt.Errorf("fleet.listen: missing; fleet.embedded needs the address at which other hosts reach this one, such as 0.0.0.0:4222")
	case !f.Embedded && f.Listen != "":
		return fmt.Errorf("fleet.listen: %q is set without fleet.embedded; set both, or leave it out", f.Listen)
	case f.Creds != "" && !filepath.IsAbs(f.Creds):
		return fmt.Errorf("fleet.creds: %q is not an absolute path", f.Creds)
	}
	for server := range strings.SplitSeq(f.URL, ",") {
		if err := checkServer(server); f.URL != "" && err != nil {
			return fmt.Errorf("fleet.url: %w", err)
		}
	}
	return nil
}

// checkServer returns what is wrong with the URL of a NATS server.
func checkServer(server string) error {
	const want = "write one such as tls://nats.example.com:4222, several with commas"
	u, err := url.Parse(server)
	switch {
	case err != nil: // its text may have a password
		return fmt.Errorf("it has what is not a URL; %s", want)
	case u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss", u.Hostname() == "":
		return fmt.Errorf("%q is not the URL of a NATS server; %s", u.Redacted(), want)
	case u.User != nil:
		return fmt.Errorf("%q has credentials in it; put them into the file that fleet.creds names", u.Redacted())
	}
	return nil
}

// checkAddress returns what is wrong with an address to listen at, nil for "".
func checkAddress(key, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if n, fault := strconv.Atoi(port); err != nil || fault != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s: %q is not HOST:PORT, such as 0.0.0.0:4222", key, address)
	}
	return nil
}

// labelsHook reads labels of the environment, such as role=ci,rack=7.
func labelsHook(from, to reflect.Type, value any) (any, error) {
	if to != reflect.TypeFor[map[string]string]() || from.Kind() != reflect.String {
		return value, nil
	}
	labels := make(map[string]string)
	for pair := range strings.SplitSeq(value.(string), ",") {
		name, text, ok := strings.Cut(pair, "=")
		switch _, twice := labels[name]; {
		case pair == "":
		case !ok:
			return nil, fmt.Errorf("%.40q is not NAME=VALUE", pair)
		case twice:
			return nil, fmt.Errorf("the label %.40q is set twice", name)
		default:
			labels[name] = text
		}
	}
	return labels, nil
}
