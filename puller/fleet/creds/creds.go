// Package creds has the file with which a host joins its fleet: an invitation, or
// credentials that the operator of a NATS has made.
package creds

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nats-io/nkeys"
	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/ownerfile"
)

// MaxFile is how many bytes a file of credentials may have.
const MaxFile = 64 << 10

// Creds are what a host shows to a NATS server, and what it needs to reach it. Fields that
// the file does not say are empty.
type Creds struct {
	Fleet string   // the fleet's name
	Host  string   // the ID of the host; only an invitation has it
	URLs  []string // of the servers
	CA    string   // the server's authority, in PEM; "" for those of the system
	// Controller says that the credentials let this daemon change the fleet.
	Controller bool
	// JWT is of the user, where the NATS has operators.
	JWT  string
	Seed string // the user's nkey; a secret
}

// An invitation is the form of a file that Towline makes.
type invitation struct {
	Fleet      string   `yaml:"fleet"`
	Host       string   `yaml:"host"`
	URLs       []string `yaml:"urls"`
	Controller bool     `yaml:"controller,omitempty"`
	Seed       string   `yaml:"seed"`
	CA         string   `yaml:"ca,omitempty"`
}

// Format writes an invitation. The creds have no JWT.
func Format(c Creds) string {
	var b bytes.Buffer
	what := "host"
	if c.Controller {
		what = "controller"
	}
	fmt.Fprintf(&b, "# Lets the %s %s join the fleet %s. It is a secret: keep it in a file of mode 0600, and\n# name that file in fleet.creds.\n", what, c.Host, c.Fleet)
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	// A bytes.Buffer takes everything, and these fields all have a form in YAML.
	_ = e.Encode(invitation{c.Fleet, c.Host, c.URLs, c.Controller, c.Seed, c.CA})
	_ = e.Close()
	return b.String()
}

// Read reads a file of credentials, which its owner and its group alone may read. The error
// does not name the file, and has nothing of its content.
func Read(path string) (Creds, error) {
	content, mode, err := ownerfile.Read(path, MaxFile)
	if err != nil {
		return Creds{}, err
	}
	if mode&0o007 != 0 {
		return Creds{}, fmt.Errorf("other users can read it (%v), and it is a secret; run chmod o-rwx on it", mode)
	}
	return Parse(content)
}

// Parse reads one of three forms: an invitation, the creds file of a NATS user (a JWT and a
// seed), or a seed alone. The error names the field, and has nothing of a secret.
func Parse(content []byte) (Creds, error) {
	text := strings.TrimSpace(string(content))
	switch {
	case text == "":
		return Creds{}, errors.New("it is empty")
	case strings.Contains(text, "-----BEGIN NATS USER JWT-----"):
		return parseNATS(content)
	case strings.HasPrefix(text, "S") && !strings.ContainsAny(text, " \n\t:"):
		return Creds{Seed: text}, checkSeed(text)
	}
	return parseInvitation(content)
}

func parseNATS(content []byte) (Creds, error) {
	jwt, err := nkeys.ParseDecoratedJWT(content)
	if err != nil {
		return Creds{}, errors.New("NATS USER JWT: it can't be read; have the NATS operator make the file again")
	}
	pair, err := nkeys.ParseDecoratedUserNKey(content)
	if err != nil {
		return Creds{}, errors.New("USER NKEY SEED: missing, or not one of a user; have the NATS operator make the file again")
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return Creds{}, errors.New("USER NKEY SEED: it can't be read; have the NATS operator make the file again")
	}
	return Creds{JWT: jwt, Seed: string(seed)}, checkSeed(string(seed))
}

func parseInvitation(content []byte) (Creds, error) {
	var i invitation
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(&i); err != nil {
		// The error of the decoder has parts of the content, which is a secret.
		return Creds{}, errors.New(`it is neither what "towline fleet invite" prints, nor a creds file of NATS, nor the seed of an nkey; make it again`)
	}
	c := Creds{Fleet: i.Fleet, Host: i.Host, URLs: i.URLs, CA: i.CA, Controller: i.Controller, Seed: i.Seed}
	if err := fleet.CheckFleetName(c.Fleet); err != nil {
		return Creds{}, fmt.Errorf("fleet: %w", err)
	}
	if err := fleet.CheckHost(c.Host); err != nil {
		return Creds{}, err
	}
	if err := checkSeed(c.Seed); err != nil {
		return Creds{}, err
	}
	if len(c.URLs) == 0 {
		return Creds{}, errors.New("urls: missing; it names the servers, such as [tls://10.0.0.5:4222]")
	}
	for _, s := range c.URLs {
		if u, err := url.Parse(s); err != nil || u.Hostname() == "" || u.Scheme != "tls" && u.Scheme != "nats" || u.User != nil {
			return Creds{}, errors.New("urls: one is not the URL of a NATS server, such as tls://10.0.0.5:4222")
		}
	}
	if c.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CA)) {
		return Creds{}, errors.New("ca: it has no certificate in PEM; make the invitation again")
	}
	return c, nil
}

// checkSeed returns what is wrong with the seed of a user.
func checkSeed(seed string) error {
	const advice = `; copy the file again as a whole, or make it again`
	if seed == "" {
		return errors.New("seed: missing" + advice)
	}
	prefix, raw, err := nkeys.DecodeSeed([]byte(seed))
	clear(raw)
	switch {
	case err != nil:
		return errors.New("seed: it is damaged" + advice)
	case prefix != nkeys.PrefixByteUser:
		return errors.New("seed: it is not one of a user (SU…)" + advice)
	}
	return nil
}

// Public returns the public key of the seed.
func (c Creds) Public() (string, error) {
	pair, err := nkeys.FromSeed([]byte(c.Seed))
	if err != nil {
		return "", err
	}
	defer pair.Wipe()
	return pair.PublicKey()
}

// Sign signs what a server asks for, with the user's nkey.
func (c Creds) Sign(nonce []byte) ([]byte, error) {
	pair, err := nkeys.FromSeed([]byte(c.Seed))
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	return pair.Sign(nonce)
}
